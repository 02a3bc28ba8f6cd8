"""Data of a user's own: from each kind of file to codes and a picture."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode

import itervae
from itervae import cli
from itervae.data import load_source

pytestmark = pytest.mark.usefixtures("unchecked")
QUICK = ("--updates", "2", "--batch-size", "20", "--validate-every", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ITERVAE_DATA", raising=False)
    return tmp_path


def command(line, *more):
    cli.main([*line.split(), *more])


def idx(path, array):
    """An idx file of bytes."""
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def digits(folder, packed=""):
    """Three kinds of pictures, brighter and darker, in files called as those of MNIST."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (3, 28, 28))
    folder.mkdir(parents=True)
    found = {}
    for part, count in (("train", 60), ("t10k", 30)):
        labels = rng.integers(0, 3, count)
        images = (kinds[labels] * rng.uniform(0.8, 1, (count, 28, 28))).astype(np.uint8)
        idx(folder / f"{part}-images-idx3-ubyte{packed}", images)
        idx(folder / f"{part}-labels-idx1-ubyte{packed}", labels.astype(np.uint8))
        found[part] = images, labels
    return found


def is_picture(path):
    with Image.open(path) as image:
        return min(image.size) > 100


def said(warnings):
    return "\n".join(str(warning.message) for warning in warnings)


def test_idx_files_with_labels(here, recwarn, capsys):
    images, _ = digits(here / "raw", ".gz")["t10k"]
    command(
        "train --data array --data-path raw/train-images-idx3-ubyte.gz --divide-by 255 --latents 6 --run-dir run "
        "--labels raw/train-labels-idx1-ubyte.gz --inference amortized --val-share .5",
        *QUICK,
    )
    assert "was taken for 60 images of 28x28 pixels, divided by 255" in said(recwarn)
    command("evaluate run --suite knn --readouts mean pixels --json e.json")
    report = json.loads(Path("e.json").read_text())
    assert report["runs"]["run"]["knn"].keys() == {"mean"}
    assert report["pixels"]["knn"][-1]["accuracy"] > 0.9
    command("infer run --input raw/t10k-images-idx3-ubyte.gz --output codes.npz --figure codes.png")
    codes = np.load("codes.npz")
    assert codes["counts"].shape == (30, 6)
    run = itervae.load("run")
    x = torch.from_numpy(images.reshape(30, -1).astype(np.float32) / 255)
    expected = itervae.infer(run.model, run.engine, x).posterior.log_rate
    np.testing.assert_allclose(codes["log_rate"], expected.detach().numpy(), atol=1e-5)
    assert is_picture("codes.png")
    capsys.readouterr()


def test_a_dictionary_of_matlab(capsys):
    phi = np.random.default_rng(0).normal(size=(16, 6))
    x = np.random.default_rng(1).normal(size=(9, 16))
    scipy.io.savemat("phi.mat", {"A": phi, "D": 1.0})
    scipy.io.savemat("x.mat", {"data": x.reshape(9, 4, 4), "y": np.arange(9)})
    command("infer phi.mat --dictionary-key A --shape 4 4 --input x.mat --data-key data --output o.npz --figure o.png")
    said = capsys.readouterr().err
    assert "phi.mat 'A': 6 atoms of 16 values, its columns, a Poisson VAE" in said
    assert "x.mat 'data' was taken for 9 rows of 16 values, as they are" in said
    codes = np.load("o.npz")
    np.testing.assert_allclose(codes["reconstruction"], np.exp(codes["log_rate"]) @ phi.T, rtol=1e-4, atol=1e-6)
    assert is_picture("o.png")


def test_a_table_of_counts(recwarn, capsys):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1 + rng.poisson(0.5, (300, 3)) @ rng.gamma(0.5, 6, (3, 12)))
    names = ",".join(f"neuron {n}" for n in range(12))
    np.savetxt("counts.csv", counts, fmt="%d", delimiter=",", header=names, comments="")
    train = ("train --data array --data-path counts.csv --likelihood poisson --link softplus --latents 8 --threads 1 "
             "--batch-size 100 --inference amortized --lr .03 --run-dir")  # fmt: skip
    command(f"{train} short --updates 1")
    command(f"{train} long --updates 150 --validate-every 150")
    assert "300 rows of 12 columns, with a first line of names (neuron 0, neuron 1" in said(recwarn)
    energies = []
    for run, *figure in (("short",), ("long", "--figure", "long.png")):
        command(f"infer {run} --input counts.csv --output {run}.npz", *figure)
        energies.append(np.load(f"{run}.npz")["free_energy"].mean())
    assert energies[1] < energies[0] - 2
    codes = np.load("long.npz")
    assert is_picture("long.png")
    assert (codes["reconstruction"] > 0).all()  # rates, which are no counts
    assert codes["reconstruction"].mean() == pytest.approx(counts.mean(), rel=0.15)
    capsys.readouterr()


def test_a_folder_in_colour(here, recwarn, capsys):
    (here / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(here / f"pictures/{number}.png")
    command("train --data images --data-path pictures --patch-size 8 --latents 6 --run-dir run", *QUICK)
    command("infer run --input pictures --output codes.npz --figure codes.png")
    assert "3 of 3 pictures have colour, which becomes grey" in said(recwarn)
    assert "taken for 3 pictures of 24x32 pixels, prepared as those of the run" in capsys.readouterr().err
    assert np.load("codes.npz")["positions"].shape == (3 * 3 * 4, 3)
    assert is_picture("codes.png")


def test_the_pages_of_a_tiff(here, capsys):
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (24, 32), dtype=np.uint8)) for _ in range(4)]
    pages[0].save("pages.tif", save_all=True, append_images=pages[1:])
    command("train --data images --data-path pages.tif --patch-size 8 --latents 6 --run-dir run", *QUICK)
    command("infer run --input pages.tif --output codes.npz")
    assert "taken for 4 pictures of 24x32 pixels" in capsys.readouterr().err
    assert set(np.load("codes.npz")["positions"][:, 0]) == {0, 1, 2, 3}


def test_a_dictionary_of_scikit_learn(capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 16))
    learned = MiniBatchDictionaryLearning(6, alpha=0.5, max_iter=3, random_state=0).fit(x)
    np.save("components.npy", learned.components_)
    np.save("x.npy", x)
    line = (
        "infer components.npy --atoms rows --model sparse-coding --threshold .5 --signed --input x.npy --output o.npz"
    )
    command(line, "--figure", "o.png")
    assert (
        "components.npy: 6 atoms of 16 values, its rows, sparse coding, soft threshold 0.5, sig"
        in capsys.readouterr().err
    )
    expected = sparse_encode(x, learned.components_, algorithm="lasso_cd", alpha=0.5, max_iter=10_000)
    np.testing.assert_allclose(np.load("o.npz")["coefficients"], expected, atol=1e-4)
    assert is_picture("o.png")
    command("gap components.npy --atoms rows --data array --data-path x.npy --num 10 --engines lca-unrolled:3")
    assert "its rows" in capsys.readouterr().err
    np.save("columns.npy", learned.components_.T)
    coder = ("--coders", "lca-unrolled:3:soft", "--thresholds", "0.5")
    command("rate-distortion columns.npy --data array --data-path x.npy", *coder)
    assert "columns.npy: 6 atoms of 16 values, its columns" in capsys.readouterr().err


def test_a_set_of_torchvision(here, recwarn, capsys):
    """Small files where torchvision would put them, which are read and not fetched."""
    written = digits(here / "world/FashionMNIST/raw")
    command("train --data torchvision:FashionMNIST --data-path world --latents 6 --run-dir run", *QUICK)
    assert "60 pictures of 28x28 pixels, in grey, in [0, 1]" in said(recwarn)
    run = itervae.load("run")
    source = load_source(run.settings.data, 0)
    images, labels = written["train"]
    both = torch.cat([source.train, source.validation]), torch.cat([source.labels, source.validation_labels])
    for x, label in zip(*both, strict=True):
        same = (torch.from_numpy(images.reshape(60, -1)) / 255 - x).abs().amax(1) < 1e-6
        assert labels[same.nonzero()[0, 0]] == label
    x, y = source.load_test()
    assert (len(x), y.tolist()) == (30, written["t10k"][1].tolist())
    capsys.readouterr()


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 4, 6)])
def test_images_of_an_array(shape, recwarn, capsys):
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    np.save("x.npy", x)
    np.save("flat.npy", x.reshape(40, -1))
    Path("kinds.csv").write_text("kind\n" + "cat\ndog\n" * 20)
    options = ("--latents", "6", "--labels", "kinds.csv", *QUICK)
    command("train --data array --data-path x.npy --run-dir images", *options)
    command(f"train --data array --data-path flat.npy --shape {' '.join(map(str, shape))} --run-dir rows", *options)
    first, second = itervae.load("images").model, itervae.load("rows").model
    assert first.shape == second.shape == (shape[1:] if shape[0] == 1 else shape)
    assert first.dictionary.equal(second.dictionary)
    command("infer images --input x.npy --output codes.npz --figure codes.png")
    assert is_picture("codes.png")
    assert "kinds.csv was taken for 40 labels below the name 'kind'" in said(recwarn)
    source = load_source(itervae.load("images").settings.data, 0)
    for rows, labels in ((source.train, source.labels), (source.validation, source.validation_labels)):
        of_row = (torch.from_numpy(x.reshape(40, -1)) - rows[:, None]).abs().sum(-1).argmin(1)
        assert labels.equal(of_row % 2)  # cat and dog, by the alphabet
    capsys.readouterr()
