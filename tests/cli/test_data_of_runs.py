"""Commands measure on the data of a run, prepared as it prepared its own; one option overlays, and
the data are named."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import itervae
from itervae.cli import main
from itervae.data import DataSettings, load_source
from itervae.data.whitening import standardize_image, subtract_and_divide_contrast, whiten_image
from itervae.errors import InputError
from itervae.evaluation import filters
from itervae.sequence import SequenceSettings
from itervae.training import RunSettings, TrainingSettings, train_run


def film(seed, contrast=1.0, frames=14):
    """Texture that moves by a pixel a frame."""
    scene = np.random.default_rng(seed).normal(128, 40 * contrast, (24, 24 + frames)).clip(0, 255).astype(np.uint8)
    return np.stack([scene[:, time : time + 24] for time in range(frames)])


@pytest.fixture(scope="module", autouse=True)
def short():
    """Fewer steps than are tried otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "MOST_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "own.npz", a=film(0), b=film(1), c=film(2))
    np.savez(folder / "other.npz", d=film(3), e=film(4, 0.1))
    np.savez(folder / "one.npz", d=film(3))
    np.save(folder / "clip.npy", film(3))
    video = ["--data", "video", "--data-path", str(folder / "own.npz"), "--patch-size", "8", "--frames", "4"]
    few = ["--latents", "16", "--steps", "3", "--batch-size", "20", "--updates", "4", "--window", "2"]
    main(["train", *video, "--val-sequences", "b", "--carryover", "linear", *few, "--run-dir", str(folder / "video")])
    still = ["--patch-size", "8", "--latents", "16", "--steps", "3", "--updates", "4"]
    main(["train", *still, "--run-dir", str(folder / "still")])
    encoder = [option for option in still if option not in ("--steps", "3")]
    main(["train", *encoder, "--inference", "amortized", "--run-dir", str(folder / "encoder")])
    return folder


def energies(folder, *data, capsys):
    """Free energy of the optimum on each sequence, by `itervae sequence`."""
    main(["sequence", str(folder / "video"), *data, "--tubes", "2", "--steps", "1", "--json", str(folder / "s.json")])
    report = json.loads((folder / "s.json").read_text())
    said = capsys.readouterr().out
    assert report["data"].split()[0] == "video"
    assert report["data"] in " ".join(said.split())
    return {name: found["none"]["optimum"] for name, found in report["sequences"].items()}


def test_a_clip_reads_the_same_whatever_lies_beside_it(folder, capsys):
    both = energies(folder, "--data-path", str(folder / "other.npz"), capsys=capsys)
    assert set(both) == {"d", "e"}  # all of what is new is held out
    alone = energies(folder, "--data-path", str(folder / "one.npz"), capsys=capsys)
    named = energies(folder, "--data-path", str(folder / "other.npz"), "--val-sequences", "d", capsys=capsys)
    assert alone == {"d": pytest.approx(both["d"], rel=1e-6)}
    assert named == {"d": pytest.approx(both["d"], rel=1e-6)}
    assert set(energies(folder, capsys=capsys)) == {"b"}
    run = itervae.load(folder / "video")
    assert set(run.prepare.fitted) == {"scale"}
    dim = run.prepare(film(4, 0.1)).x.var()
    assert dim < 0.1 * run.prepare(film(3)).x.var()  # a clip of a tenth of the contrast stays one


def test_runs_that_scale_frames_differently_are_not_compared(folder, capsys):
    own = ["--data", "video", "--data-path", str(folder / "other.npz"), "--patch-size", "8", "--frames", "4"]
    few = ["--latents", "16", "--steps", "3", "--batch-size", "20", "--updates", "2", "--window", "2"]
    main(["train", *own, "--val-sequences", "d", *few, "--run-dir", str(folder / "second")])
    with pytest.raises(SystemExit):
        main(["sequence", str(folder / "video"), str(folder / "second"), "--tubes", "2"])
    assert "as each was trained on other data; measure them apart" in capsys.readouterr().err


def test_film_is_inferred_as_the_run_carries_over(folder, capsys):
    main(["infer", str(folder / "video"), "--input", str(folder / "clip.npy"), "--output", str(folder / "o.npz")])
    said = capsys.readouterr()
    assert "clip.npy was taken for 14 frames of film of 24x24 pixels, whitened as the frames" in said.err
    found = np.load(folder / "o.npz")
    assert found["log_rate"].shape == (14 * 9, 16)
    assert found["positions"][9].tolist() == [1, 0, 0]
    run = itervae.load(folder / "video")
    inputs = run.prepare(folder / "clip.npy")
    with torch.no_grad():
        filtered = itervae.filter_sequence(run.model, run.engine, inputs.sequences(), run.carryover)
    expected = filtered.u.transpose(0, 1).flatten(0, 1).numpy()
    np.testing.assert_allclose(found["log_rate"], expected, rtol=1e-4, atol=1e-5)
    energy = filtered.free_energy.mT.flatten().numpy()
    np.testing.assert_allclose(found["free_energy"], energy, rtol=1e-4, atol=1e-4)
    main(
        [
            "infer",
            str(folder / "video"),
            "--input",
            str(folder / "clip.npy"),
            "--as",
            "images",
            "--output",
            str(folder / "i.npz"),
        ]
    )
    apart = np.load(folder / "i.npz")["log_rate"]
    np.testing.assert_allclose(apart[:9], expected[:9], rtol=1e-4, atol=1e-5)
    assert np.abs(apart[9:] - expected[9:]).max() > 1e-2


@pytest.mark.parametrize("command", ["gap", "evaluate", "rate-distortion"])
def test_one_option_overlays_and_the_data_are_named(folder, command, capsys):
    """Patches of 8×8 are what the runs take: had the option dropped their settings, 16×16 would not
    have fitted."""
    options = {
        "gap": ["--num", "20", "--engines", "lca-unrolled:2"],
        "evaluate": ["--num", "20", "--suite", "sparsity"],
        "rate-distortion": ["--num", "20", "--coders", "lca-unrolled:2:soft", "--thresholds", "0.5"],
    }[command]
    main([command, str(folder / "still"), *options, "--val-share", "0.3"])
    assert "photos validation" in " ".join(capsys.readouterr().out.split())
    if command == "evaluate":
        main([command, str(folder / "still"), str(folder / "encoder"), *options, "--val-share", "0.3"])
        assert "photos validation" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main([command, str(folder / "still"), *options, "--data-path", str(folder / "clip.npy")])
    assert "--data-path" in capsys.readouterr().err


def test_overlays():
    own = DataSettings(data="images", data_path="a.npz", data_key="k", val_key="v", patch_size=8, whiten=False)
    assert own.overlaid({}) == own
    assert own.overlaid({"patch_size": 12}).data_key == "k"
    moved = own.overlaid({"data_path": "b.npz"})
    assert (moved.data_key, moved.val_key, moved.patch_size, moved.whiten) == (None, None, 8, False)
    video = own.overlaid({"data": "video", "data_path": "c.mp4"})
    assert (video.patch_size, video.frames, video.whiten) == (8, 16, True)
    video.check()


def test_rows_of_another_width_are_refused_with_what_to_do(folder, capsys):
    np.save(folder / "wide.npy", np.random.default_rng(0).normal(size=(64, 20)))
    with pytest.raises(SystemExit):
        main(["gap", str(folder / "still"), "--data", "array", "--data-path", str(folder / "wide.npy")])
    assert "64 rows of 20 values" in (said := capsys.readouterr().err)
    assert "transpose them" in said
    np.save(folder / "latents.npy", np.random.default_rng(0).normal(size=(30, 16)))
    with pytest.raises(SystemExit):
        main(["gap", str(folder / "still"), "--data", "array", "--data-path", str(folder / "latents.npy")])
    assert "if the atoms of its dictionary lie in rows, transpose it" in capsys.readouterr().err


def test_film_measured_on_a_run_of_photographs_is_divided_as_ever(folder, capsys):
    """Such a run has no scale of frames to hold all of it out with."""
    film = ["--data", "video", "--data-path", str(folder / "own.npz"), "--frames", "4"]
    main(["gap", str(folder / "still"), *film, "--num", "10", "--engines", "lca-unrolled:2"])
    assert "video validation" in " ".join(capsys.readouterr().out.split())


def test_what_an_input_cannot_be_taken_for_is_said(folder, capsys):
    with pytest.raises(SystemExit):
        main(
            ["infer", str(folder / "still"), "--input", "x.npy", "--as", "pictures", "--output", str(folder / "o.npz")]
        )
    assert "--as is 'pictures'; expected one of rows, images, video" in capsys.readouterr().err


def test_a_frozen_model_gets_film_in_the_scale_that_it_was_trained_on(folder, tmp_path):
    data = DataSettings(data="video", data_path=folder / "other.npz", patch_size=8, frames=4, val_sequences="e")
    training = TrainingSettings(freeze=folder / "video", updates=2, batch_size=10)
    settings = RunSettings(data=data, training=training, sequence=SequenceSettings(carryover="linear", window=2))
    train_run(settings, tmp_path / "frozen")
    assert itervae.load(tmp_path / "frozen").prepare.fitted == itervae.load(folder / "video").prepare.fitted


def test_an_array_in_memory_is_prepared_too(folder):
    run = itervae.load(folder / "still")
    model, engine = run
    assert model is run.model
    picture = np.random.default_rng(0).random((3, 40, 24))
    found = run.prepare(picture)
    assert found.x.shape == (3 * 15, 64)
    assert torch.equal(found.x, run.prepare(torch.from_numpy(picture)).x)
    assert itervae.infer(model, engine, found.x).posterior.mean.shape == (45, 16)
    with pytest.raises(InputError, match="there are no sequences: the array was taken for 3 pictures"):
        found.sequences()


def test_a_run_keeps_the_rule_of_its_local_contrast(tmp_path):
    stack = np.random.default_rng(5).integers(0, 256, (4, 40, 40), dtype=np.uint8)
    np.save(tmp_path / "x.npy", stack)
    run = str(tmp_path / "run")
    data = ["--data", "images", "--data-path", str(tmp_path / "x.npy"), "--patch-size", "8", "--local-contrast"]
    few = ["--contrast-rule", "published", "--inference", "amortized", "--latents", "8", "--updates", "2"]
    main(["train", *data, *few, "--run-dir", run])
    prepared = itervae.load(run).prepare(stack).x
    image = standardize_image(subtract_and_divide_contrast(whiten_image(torch.from_numpy(stack / 255))))
    patches = image.unfold(1, 8, 8).unfold(2, 8, 8).reshape(-1, 64)
    patches = patches - patches.mean(1, keepdim=True)  # a patch has mean 0
    torch.testing.assert_close(prepared, patches.float(), atol=1e-4, rtol=1e-3)
    main(["evaluate", run, "--suite", "reconstruction", "--num", "50", "--json", str(tmp_path / "e.json")])
    found = json.loads((tmp_path / "e.json").read_text())["runs"]["run"]["reconstruction"]["variance"]
    settings = DataSettings(data="images", data_path=tmp_path / "x.npy", patch_size=8, local_contrast=True)
    variances = [
        load_source(replace(settings, contrast_rule=rule), 0).validation[:50].var(0, correction=0).sum().item()
        for rule in ("published", "divisive")
    ]
    assert found == pytest.approx(variances[0], rel=1e-5) != pytest.approx(variances[1], rel=1e-3)


def test_a_run_goes_on_with_the_rule_of_its_local_contrast(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(5).integers(0, 256, (4, 40, 40), dtype=np.uint8))
    data = ["--data", "images", "--data-path", str(tmp_path / "x.npy"), "--patch-size", "8", "--local-contrast"]
    few = ["--contrast-rule", "published", "--inference", "amortized", "--latents", "8", "--updates"]
    main(["train", *data, *few, "6", "--run-dir", str(tmp_path / "whole")])
    main(["train", *data, *few, "3", "--run-dir", str(tmp_path / "parts")])
    main(["train", "--resume", str(tmp_path / "parts"), "--updates", "6"])
    whole, parts = (itervae.load(tmp_path / name) for name in ("whole", "parts"))
    assert parts.settings.data == whole.settings.data
    assert parts.settings.data.contrast_rule == "published"
