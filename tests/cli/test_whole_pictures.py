"""Runs with a convolutional dictionary, which were trained on crops, encode and measure pictures
whole, of any size; and what is exported of them is what is imported."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import itervae
from itervae import cli
from itervae.data.images import read_images
from itervae.data.photographs import prepare_images
from itervae.errors import InputError
from itervae.inference import LCAUnrolled, certificate, infer
from itervae.inference.settings import AmortizedSettings
from itervae.model import SparseCodingSettings, SparsityPrior, build_model, save_dictionary, sparse_coding_model
from itervae.training import RunSettings, TrainingSettings
from itervae.training.freeze import frozen_model

SIZES = [(30, 24), (30, 24), (21, 40), (30, 24), (26, 26)]


def run(*args):
    cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, a dictionary file of sparse coding, and pictures of three sizes."""
    home = tmp_path_factory.mktemp("whole")
    (home / "pictures").mkdir()
    for number, size in enumerate(SIZES):
        values = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(values).save(home / f"pictures/{number}.png")
    few = ("--latents", 3, "--decoder", "convolutional", "--atom-size", 4, "--stride", 2, "--updates", 2)
    run("train", *data(home), *few, "--steps", 4, "--batch-size", 8, "--device", "cpu", "--run-dir", home / "run")
    coding = SparseCodingSettings(3, 0.5, signed=True, decoder="convolutional", atom_size=4, stride=2)
    save_dictionary(build_model(coding, (10, 10)), home / "coding.npz")
    return home


def data(home):
    return ("--data", "images", "--data-path", home / "pictures", "--val-share", 0.6, "--patch-size", 10)


def pictures(home):
    """The pictures as the run prepares them."""
    settings = itervae.load(home / "run").settings.data
    return list(prepare_images(read_images(home / "pictures", None, 4), settings))


def test_infer_takes_pictures_whole(home, capsys):
    run("infer", home / "run", "--input", home / "pictures", "--output", home / "c.npz", "--figure", home / "c.png")
    found, said = np.load(home / "c.npz"), capsys.readouterr()
    assert "was taken for 5 whole pictures of 30x24 and 21x40 and 26x26 pixels, prepared as those of" in said.err
    assert found["positions"].tolist() == [[number, 0, 0] for number in range(5)]
    model, engine = itervae.load(home / "run")
    for number, picture in enumerate(pictures(home)):
        one = model.at(tuple(picture.shape))
        answer = infer(one, engine, picture.flatten()[None])
        assert found[f"log_rate_{number}"].shape == found[f"counts_{number}"].shape == (3, *one.operator().places)
        assert_close(torch.tensor(found[f"log_rate_{number}"]), one.maps(answer.posterior.log_rate)[0])
        reconstruction = one.signal(one.decode(answer.posterior.mean))[0]
        assert_close(torch.tensor(found[f"reconstruction_{number}"]), reconstruction, rtol=1e-4, atol=1e-5)
        assert_close(found["free_energy"][number].item(), one.free_energy(picture[None], answer.posterior).total.item())
        assert_close(found["certificate"][number].item(), answer.stats["certificate"].item(), rtol=1e-3, atol=1e-5)


def test_pictures_of_one_size_make_one_array(home):
    stack = np.random.default_rng(0).integers(0, 256, (3, 17, 23), dtype=np.uint8)
    np.save(home / "stack.npy", stack)
    run("infer", home / "run", "--input", home / "stack.npy", "--output", home / "s.npz")
    found = np.load(home / "s.npz")
    assert found["log_rate"].shape == found["counts"].shape == (3, 3, 10, 13)
    assert found["reconstruction"].shape == (3, 17, 23)
    prepared = itervae.load(home / "run").prepare(stack)
    assert prepared.x.shape == (3, 17, 23)
    model, engine = itervae.load(home / "run")
    assert_close(torch.tensor(found["log_rate"]).flatten(1), infer(model, engine, prepared.x).posterior.log_rate)


def test_rows_of_the_size_of_a_crop_are_what_they_were(home):
    np.save(home / "rows.npy", np.random.default_rng(0).normal(size=(4, 100)))
    run("infer", home / "run", "--input", home / "rows.npy", "--output", home / "r.npz")
    found = np.load(home / "r.npz")
    assert found["log_rate"].shape == (4, 3, 7, 7)
    assert "positions" not in found
    np.save(home / "larger.npy", np.random.default_rng(0).normal(size=(4, 12, 9)))  # prepared by the user
    run("infer", home / "run", "--input", home / "larger.npy", "--as", "rows", "--output", home / "l.npz")
    assert np.load(home / "l.npz")["reconstruction"].shape == (4, 12, 9)


def test_pictures_of_several_sizes_are_prepared_one_size_at_a_time(home):
    prepare = itervae.load(home / "run").prepare
    with pytest.raises(InputError, match="the pictures are of 30x24, 21x40, 26x26 pixels; prepare them by `each`"):
        prepare(home / "pictures")
    assert [len(part.x) for part in prepare.each(home / "pictures")] == [2, 1, 1, 1]
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(10, 3)).save(home / "thin.png")
    with pytest.raises(InputError, match=r"thin.png has 10x3 pixels, less than an atom of 4x4; leave it out"):
        prepare(home / "thin.png")


@pytest.mark.parametrize("name", ["run", "coding.npz"])
def test_the_gap_of_whole_pictures(home, name):
    given = ("--engines", "lca-unrolled:3", "--trace", *(data(home) if name != "run" else ()))
    run("gap", home / name, "--whole", *given, "--json", home / "g.json", "--save", home / "g.npz")
    report, arrays = json.loads((home / "g.json").read_text()), np.load(home / "g.npz")
    assert report["num"] == 3
    assert report["data"].endswith("whole pictures")
    assert report["optimal"]["certificate_max"] <= 1e-6
    model = itervae.load(home / name).model if name == "run" else itervae.load_dictionary(home / name)
    energies = []
    for picture in pictures(home):
        found = infer(model, LCAUnrolled(), picture[None], steps=3)
        energies.append(model.free_energy(picture[None], found.posterior).total.item())
    measured = arrays["free_energy lca-unrolled:3"]
    assert all(min(abs(value - energy) for energy in energies) < 1e-2 for value in measured)
    gaps, engine = measured - arrays["free_energy_optimal"], report["engines"]["lca-unrolled:3"]
    assert engine["gap_mean"] == pytest.approx(gaps.mean())
    assert engine["trace"]["mean"][-1] == pytest.approx(gaps.mean(), abs=1e-4)


def test_other_crops_and_whole_pictures_are_evaluated(home, capsys):
    run("evaluate", home / "run", "--patch-size", 14, "--num", 4, "--json", home / "e.json")
    assert json.loads((home / "e.json").read_text())["runs"]["run"]["units"]["latents"] == 3 * 9 * 9
    with pytest.raises(SystemExit):
        run("evaluate", home / "run", "--whole")
    assert "of 30x24, 1 of" in " ".join(capsys.readouterr().err.split())


def test_what_is_exported_is_imported(home, capsys):
    run("export", home / "run", "--output", home / "run.npz")
    assert "3 atoms of 4x4, one every 2, anywhere" in capsys.readouterr().out
    trained, model = itervae.load(home / "run").model, itervae.load_dictionary(home / "run.npz")
    assert str(np.load(home / "run.npz")["kind"]) == "convolution"
    assert model.shape == trained.shape
    assert torch.equal(model.operator().atoms, trained.operator().atoms)
    assert torch.equal(model.prior().u, trained.prior().u)
    picture = pictures(home)[2][None]
    one, other = (infer(each, LCAUnrolled(4), picture) for each in (trained, model))
    assert torch.equal(one.posterior.u, other.posterior.u)
    assert_close(certificate(trained, picture, one.posterior), one.stats["certificate"])


@pytest.mark.parametrize("name", ["run", "coding"])
def test_a_dictionary_file_is_read_and_written_bit_by_bit(home, name):
    file = home / f"{name}-first.npz"
    save_dictionary(
        itervae.load(home / name).model if name == "run" else itervae.load_dictionary(home / "coding.npz"), file
    )
    save_dictionary(itervae.load_dictionary(file), home / "again.npz")
    first, second = (dict(np.load(each)) for each in (file, home / "again.npz"))
    assert {n: v.tobytes() for n, v in first.items()} == {n: v.tobytes() for n, v in second.items()}


def test_dictionary_files_encode_whole_pictures_and_are_kept_by_a_run(home):
    file, given = home / "coding.npz", (home / "pictures", "--output", home / "d.npz")
    run("infer", file, "--input", *given)
    assert np.load(home / "d.npz")["coefficients_2"].shape == (3, 12, 22)
    asked = SparseCodingSettings(threshold=0.5, signed=True)
    settings = RunSettings(engine=AmortizedSettings(), model=asked, training=TrainingSettings(freeze=file))
    described, model = frozen_model(settings, file, (9, 9))
    assert (model.shape, described.model.latents, described.model.stride) == ((9, 9), 3, 2)
    made = build_model(described.model, (9, 9))
    assert {n: v.shape for n, v in made.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}


def test_small_atoms_of_an_array_need_a_stride(home):
    atoms = np.random.default_rng(0).normal(size=(5, 3, 2, 4)).astype(np.float32)
    np.save(home / "atoms.npy", atoms)
    model = itervae.load_dictionary(home / "atoms.npy", stride=2, threshold=0.3, signed=True)
    assert isinstance(model.prior, SparsityPrior)
    assert (model.shape, model.prior.maps) == ((3, 2, 4), 5)
    assert np.array_equal(model.operator().atoms.numpy(), atoms)
    assert model.at((3, 9, 7)).operator().stride == 2


def test_rate_and_distortion_of_small_atoms(home):
    few = ("--num", 6, "--thresholds", 0.5, "--coders", "lca-unrolled:5:soft", "--patch-size", 9)
    run("rate-distortion", home / "run", *few, "--json", home / "rd.json")
    points = json.loads((home / "rd.json").read_text())["points"]
    assert "LCA soft, P-VAE dictionary" in {point["family"] for point in points}


@pytest.mark.parametrize("shrinkage", ["soft", "hard"])
def test_sparse_coding_is_that_of_the_matrix_of_its_columns(shrinkage):
    settings = SparseCodingSettings(2, 0.4, shrinkage, True, decoder="convolutional", atom_size=3, stride=2)
    model = build_model(settings, (6, 5))
    assert_close(model.operator().atoms.flatten(1).norm(dim=1), torch.ones(2))
    columns = model.decode(torch.eye(model.latents)).mT.detach()
    dense = sparse_coding_model(columns, SparseCodingSettings(2, 0.4, shrinkage, True, unit_norm=False), (6, 5))
    x = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    one, other = infer(model, LCAUnrolled(5), x), infer(dense, LCAUnrolled(5), x.flatten(1))
    assert_close(one.posterior.mean, other.posterior.mean, rtol=1e-4, atol=1e-5)


def test_recordings_of_several_channels(home):
    draw = np.random.default_rng(0)
    np.save(home / "windows.npy", draw.normal(size=(12, 2, 20)))
    np.save(home / "recording.npy", draw.normal(size=(1, 2, 57)))
    few = ("--decoder", "convolutional", "--dimensions", 1, "--latents", 3, "--atom-size", 5, "--stride", 2)
    few = (*few, "--updates", 1, "--batch-size", 4, "--steps", 2, "--device", "cpu")
    run("train", "--data", "array", "--data-path", home / "windows.npy", *few, "--run-dir", home / "sound")
    run("infer", home / "sound", "--input", home / "recording.npy", "--output", home / "o.npz")
    found = np.load(home / "o.npz")
    assert (found["log_rate"].shape, found["reconstruction"].shape) == ((1, 3, 31), (1, 2, 57))
