"""`itervae sequence` as a user types it: the report, the pictures, and one sentence where something
does not fit."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image
from sklearn import datasets

import itervae
from itervae import cli
from itervae.cli import runs as runs_module
from itervae.cli.work import sequence as command
from itervae.config import parse_train
from itervae.evaluation import filters
from itervae.inference import Optimal
from itervae.sequence import STARTS
from itervae.training import LAST, load_sequence, train_run, write_checkpoint
from itervae.training.checkpoint import build, make_carryover

FRAMES = 4
RUNS = {
    "mixing": ["--carryover", "mixing"],
    "none": ["--carryover", "none", "--seed", "1"],
    "pass": ["--carryover", "leaky", "--inference", "amortized"],
    "same-0": ["--carryover", "mixing"],
    "same-1": ["--carryover", "mixing"],
    "same-level": ["--carryover", "level"],
    "larger": ["--carryover", "mixing", "--patch-size", "7"],
    "still": ["--data", "photos", "--patch-size", "6"],
}
FIELDS = {"frames", "optimum", "at_steps", "steps_to", "shuffled_optimum"}  # that others rely on


@pytest.fixture(scope="module", autouse=True)
def short():
    """Fewer steps than are tried otherwise, smaller photographs, no checks of shapes, which take
    half the time."""
    photographs = SimpleNamespace(images=[image[:80, :160] for image in datasets.load_sample_images().images])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "MOST_STEPS", 2)
        patch.setattr(datasets, "load_sample_images", lambda: photographs)
        before = config.jaxtyping_disable
        config.update("jaxtyping_disable", True)
        yield
        config.update("jaxtyping_disable", before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of an update on drifting windows of 6 × 6 pixels, and untrained ones; the `same`
    ones have its model."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        given = {"--patch-size": "6", "--updates": "1", "--batch-size": "4", "--device": "cpu", "--latents": "8"}
        given |= {"--start-log-rate": "-1"}  # there are spikes from the start
        if name != "still":
            given |= {"--frames": str(FRAMES), "--window": "2"}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        settings, _, _ = parse_train([token for pair in given.items() for token in pair])
        if name == "mixing":
            train_run(settings, folder / name)
            trained = load_sequence(folder / name)[0]
            continue
        shape = (settings.data.patch_size,) * 2
        model, engine = build(settings, shape)
        if name.startswith("same"):
            model.load_state_dict(trained.state_dict())
        content = {"model": model.state_dict(), "engine": engine.state_dict()}
        if name != "still":
            content["carryover"] = make_carryover(settings, model).state_dict()
        (folder / name).mkdir()
        write_checkpoint(folder / name / LAST, {"config": settings.flat(), "shape": shape, **content})
    return folder


def measured(folder, path, *args):
    """The report of some runs."""
    cli.main(["sequence", *(str(folder / arg) if arg in RUNS else str(arg) for arg in args), "--json", str(path)])
    return json.loads(path.read_text())


@pytest.fixture
def said(capsys):
    """What a refusal says: one sentence, exit code 2."""

    def refused(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main(["sequence", *map(str, args)])
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert error.count("\n") == 1
        return error

    return refused


def test_the_report_the_table_and_the_pictures(runs, tmp_path, capsys):
    pictures = {name: tmp_path / f"x.{suffix}" for name, suffix in (("figure", "png"), ("animation", "gif"))}
    pictures["spikes"] = tmp_path / "spikes.png"
    options = [token for name, path in pictures.items() for token in (f"--{name}", path)]
    report = measured(runs, tmp_path / "r.json", "mixing", "--steps", "1,3", "--tubes", "2", *options)
    assert report["frames"] == FRAMES
    assert report["tubes"] == 2
    assert list(report["sequences"]) == ["drift"]
    for found in (report["sequences"]["drift"], report["mean"]):
        assert list(found) == ["none", "mixing"]
        for each in found.values():
            assert set(each) >= FIELDS
            assert each["frames"] == 2 * (FRAMES - 1)
            assert isinstance(each["optimum"], float)
            assert isinstance(each["shuffled_optimum"], float)
            assert list(each["at_steps"]) == ["1", "3"]
            assert set(each["steps_to"]) == {"1.0", "0.1"}
            for starts in each["steps_to"].values():
                assert set(starts) == {*STARTS} == {"prior", "previous", "safer"}
                assert all(isinstance(value, float) for value in starts.values())
            assert len(each["free_energy"]) == FRAMES
        assert found["none"]["free_energy"][0] == pytest.approx(found["mixing"]["free_energy"][0], abs=1e-5)
        assert found["none"]["free_energy"][1] != pytest.approx(found["mixing"]["free_energy"][1], abs=1e-5)
    assert set(report["units"]) == {"none", "mixing"}
    assert report["certificate_max"] <= 1e-6
    printed = capsys.readouterr().out
    assert "1 step " in printed
    assert "3 steps" in printed
    for found in report["mean"].values():
        assert f"{found['optimum']:.2f}" in printed
    assert "largest certificate of the optima" in printed
    assert "beyond level: not measured; name a run of itervae train --carryover level too" in printed
    assert report["level"] is None
    assert report["over_sequences"]["mixing"]["gain"]["sequences"] == 1
    assert report["mean"]["mixing"]["gain_standard_error"] is None  # over sequences, of which there is one
    assert report["sequences"]["drift"]["mixing"]["gain_standard_error"] > 0  # over tubes
    for name, path in pictures.items():
        with Image.open(path) as picture:
            assert picture.n_frames == FRAMES if name == "animation" else min(picture.size) > 400


def test_runs_of_one_model_share_none_and_the_same_carryover_gets_distinct_names(runs, tmp_path, capsys):
    every = ("same-0", "same-level", "mixing")
    report = measured(runs, tmp_path / "r.json", *every, "--steps", "1", "--tubes", "2")
    names = ["none", "mixing (same-0)", "level", "mixing (mixing)"]
    assert list(report["mean"]) == list(report["sequences"]["drift"]) == names
    assert report["level"] == "level"
    assert "below the optimum of 'level', the first run with --carryover level" in capsys.readouterr().out
    level, mixing = (report["mean"][name]["optimum"] for name in ("level", "mixing (mixing)"))
    assert report["mean"]["mixing (mixing)"]["beyond_level"] == pytest.approx(level - mixing, abs=1e-4)


def test_models_that_differ_have_a_none_each_and_engines_of_one_pass_a_column(runs, tmp_path, capsys):
    for order in (("none", "pass"), ("pass", "none")):
        report = measured(runs, tmp_path / "r.json", *order, "--steps", "2", "--tubes", "2")
        assert list(report["mean"]) == ["none", f"none ({order[1]})", "leaky"]
        assert report["mean"]["leaky"]["steps_to"] == {}
        assert list(report["mean"]["leaky"]["at_steps"]) == ["0"]
        stepped = "none" if order[0] == "none" else "none (none)"
        assert list(report["mean"][stepped]["at_steps"]) == ["2"]
        printed = capsys.readouterr().out
        assert "one pass" in printed
        assert "2 steps" in printed


def test_a_run_named_twice_is_measured_once_and_folders_of_one_name_are_told_apart(runs, tmp_path, capsys):
    twin = tmp_path / "mixing"
    shutil.copytree(runs / "mixing", twin)
    args = ["mixing", "mixing", twin, "--steps", "1", "--tubes", "1"]
    report = measured(runs, tmp_path / "r.json", *args)
    assert list(report["mean"]) == ["none", f"mixing ({runs / 'mixing'})", f"mixing ({twin})"]
    assert report["mean"]["none"]["shuffled_optimum"] is None  # where there is one clip
    printed = capsys.readouterr().out
    assert "…" not in printed  # names and digits are whole, whatever the width
    assert f"mixing ({twin})" in printed
    files = [path / LAST for path in (runs / "same-0", runs / "same-1")]
    report = measured(runs, tmp_path / "r.json", *files, "--steps", "1", "--tubes", "2")
    names = [f"mixing (same-{number}/{LAST})" for number in (0, 1)]
    assert list(report["mean"]) == ["none", *names]


def test_settings_of_the_data_change_those_of_the_run(runs, tmp_path, said):
    """Those that are given, even where they are the defaults of other data."""
    for frames in (2, 16):
        report = measured(runs, tmp_path / "r.json", "none", "--frames", frames, "--steps", "1", "--tubes", "1")
        assert report["frames"] == len(report["mean"]["none"]["free_energy"]) == frames
        assert report["mean"]["none"]["frames"] == frames - 1
    error = said(runs / "mixing", "--patch-size", "16")
    assert f"the data have 256 values per datum and {runs / 'mixing'} explains 36; name data that fit" in error
    report = measured(runs, tmp_path / "r.json", "none", "--data", "drift", "--steps", "1", "--tubes", "1")
    assert report["frames"] == FRAMES  # which the same kind of data keeps
    assert "--data photos has no order; use --data video or --data drift" in said(runs / "mixing", "--data", "photos")
    assert "sequences of one frame have no past" in said(runs / "none", "--frames", "1")
    assert "--whiten does not apply to --data drift" in said(runs / "none", "--no-whiten").replace("--no-", "--")


def test_what_does_not_fit_is_one_sentence(runs, tmp_path, said, monkeypatch):
    larger = runs / "larger"
    assert f"the data have 36 values per datum and {larger} explains 49" in said(
        runs / "mixing", larger, "--patch-size", 6
    )
    error = said(runs / "mixing", larger)
    assert f"{runs / 'mixing'} was trained on drift (patch_size 6, frames 4) and {larger} on" in error
    assert "name the data to measure all of them on with --patch-size" in error
    monkeypatch.setattr(command, "measure_sequences", lambda *_, **__: pytest.fail("began to work"))
    monkeypatch.setattr(runs_module, "load", lambda *_, **__: pytest.fail("began to work"))
    assert "no run was named" in said()
    for steps, message in (
        ("0", "--steps is 0; expected a number ≥ 1"),
        ("", "--steps was given no value; expected numbers ≥ 1 such as 1 2 3"),
        ("1,x", "--steps is '1 x'; expected a whole number"),
        ("2,-1", "--steps is -1; expected a number ≥ 1"),
        ("²", "--steps is '²'; expected a whole number"),
    ):
        assert message in said(runs / "mixing", "--steps", steps)
    assert "--tubes is 0; expected a number ≥ 1" in said(runs / "mixing", "--tubes", "0")
    for name, suffix in (("figure", ".png"), ("spikes", ".png"), ("animation", ".gif")):
        error = said(runs / "mixing", f"--{name}", tmp_path / "x.mp4")
        assert f"--{name} is {tmp_path / 'x.mp4'}; expected a name ending in {suffix}" in error
    monkeypatch.undo()
    assert "was not trained on sequences" in said(runs / "still")
    assert "nowhere" in said(runs / "nowhere")
    assert not list(tmp_path.iterdir())


def test_the_online_example_of_the_documentation(runs):
    text = (Path(__file__).parents[2] / "docs/sequence.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]
    scope = {"itervae": itervae, "torch": torch, "frames": torch.randn(FRAMES, 3, 36)}
    exec(re.sub(r'"runs/[a-z-]+"', repr(str(runs / "mixing")), code), scope)
    assert (scope["state"].age == FRAMES).all()
    assert scope["found"].posterior.u.shape == (3, 8)


def test_whole_frames_of_film(tmp_path, capsys, monkeypatch):
    """Against the optimum of whole frames, prepared as `infer` prepares them; nats a pixel too."""
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 30)).astype(np.uint8)
    clips = {name: np.stack([each[:, t : t + 11] for t in range(6)]) for name, each in zip("abc", noise, strict=True)}
    np.savez(tmp_path / "film.npz", **clips)
    given = f"--data video --data-path {tmp_path / 'film.npz'} --val-sequences b,c --frames 3 --patch-size 6"
    given += " --decoder convolutional --latents 2 --atom-size 3 --stride 2 --start-log-rate -1 --carryover level"
    settings, _, _ = parse_train(given.split())
    model, engine = build(settings, (6, 6))
    parts = {"model": model, "engine": engine, "carryover": make_carryover(settings, model)}
    content = {name: part.state_dict() for name, part in parts.items()} | {"fitted": {"scale": 20.0}}
    (tmp_path / "run").mkdir()
    write_checkpoint(tmp_path / "run" / LAST, {"config": settings.flat(), "shape": (6, 6), **content})
    options = ("--whole", "--optima", "--certificate", "1e-4", "--device", "cpu")
    report = measured(tmp_path, tmp_path / "r.json", tmp_path / "run", *options)
    assert report["shape"] == [8, 11]
    assert report["tubes"] == 1
    assert list(report["sequences"]) == ["b", "c"]
    assert report["certificate_max"] <= 1e-4
    printed, run = capsys.readouterr().out, itervae.load(tmp_path / "run")
    for name in ("b", "c"):
        x = run.prepare(clips[name][1:3]).x.double()
        best = itervae.infer(run.model.double(), Optimal(), x).posterior
        expected = run.model.at((8, 11)).free_energy(x, best).total.mean().item()
        assert report["sequences"][name]["none"]["optimum"] == pytest.approx(expected, abs=1e-3)
        assert f"{expected / 88:.5f}" in printed
    assert len(report["units"]["level"]) == 2  # maps


def test_whole_frames_are_of_film_and_of_convolutional_dictionaries(runs, said):
    error = said(runs / "mixing", "--whole")
    assert "--whole was given for" in error
    assert "LinearDecoder for data of one size; leave it out" in error
