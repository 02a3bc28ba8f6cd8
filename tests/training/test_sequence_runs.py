"""Runs on sequences: every window is trained, state goes on between them, resume is exact, the past
pays."""

import json

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError
from itervae.data import DataSettings, load_source
from itervae.inference import ENGINES, LCAUnrolled, Unroll
from itervae.model import GaussianVAESettings, PoissonVAESettings, SparseCodingSettings, build_model
from itervae.sequence import LinearMap, LinearMapSettings, Mixing, SequenceSettings, filter_sequence
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, train_run
from itervae.training.distributed import Processes
from itervae.training.tasks import SequenceTask
from itervae.training.validation import validate

FRAMES = 6


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four stacks of 20 frames in which a texture moves by a pixel a frame."""
    stacks = {}
    for number in range(4):
        texture = np.kron(np.random.default_rng(number).integers(0, 256, (12, 20)), np.ones((2, 2)))
        stacks[f"s{number}"] = np.stack([texture[:, t : t + 20] for t in range(20)]).astype(np.uint8)
    path = tmp_path_factory.mktemp("videos") / "stacks.npz"
    np.savez(path, **stacks)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "cache"))


def settings(videos, inference="lca-unrolled", engine=None, model=None, sequence=None, carryover=None, **training):
    training = {"updates": 8, "batch_size": 10, "validate_every": 4, "device": "cpu", **training}
    return RunSettings(
        inference,
        DataSettings(data="video", data_path=videos, frames=FRAMES, patch_size=6, val_sequences="s3"),
        model or PoissonVAESettings(latents=24),
        ENGINES[inference].Settings(**({"steps": 5} if engine is None else engine)),
        TrainingSettings(**training),
        SequenceSettings(**{"carryover": "linear", "window": 2, **(sequence or {})}),
        carryover,
    )


def task_of(videos, carryover, window, gradient=None, **sequence):
    run = settings(videos, sequence={"window": window, **sequence})
    source = load_source(run.data, 0)
    model = build_model(run.model, source.shape, 0)
    return SequenceTask(run, model, LCAUnrolled(5), source, gradient or Unroll(), Processes(), carryover)


def test_windows_go_on_where_the_one_before_ended(videos):
    """Three windows of two frames are the six frames of the tube, and then the next tube begins
    anew."""
    task = task_of(videos, Mixing(24), 2)
    generator = torch.Generator().manual_seed(0)
    for tube in (0, 1):
        whole = filter_sequence(task.model, task.engine, task.source.batch(tube, 10), task.carryover).free_energy
        for part in range(3):
            step = task.step(task.batch(3 * tube + part), 1.0, generator)
            expected = whole[:, 2 * part : 2 * part + 2]
            torch.testing.assert_close(step.free_energy.total, expected.mT.flatten())
            torch.testing.assert_close(step.loss, expected.mean())
            assert not task.state.u.requires_grad


def test_the_gradient_goes_back_to_the_first_frame_of_the_window_and_no_further(videos):
    frames = {}
    for window in (1, 2, 6):
        task = task_of(videos, Mixing(24), window)
        generator = torch.Generator().manual_seed(0)
        for update in range(6 // window):
            step = task.step(task.batch(update), 1.0, generator)
        task.model.zero_grad()
        task.carryover.zero_grad()
        step.free_energy.total[-10:].mean().backward()  # of the last frame alone
        frames[window] = task.carryover.logit.grad.clone(), step.free_energy.total[-10:].detach()
    torch.testing.assert_close(frames[1][1], frames[6][1])  # the same answer
    differences = [(frames[a][0] - frames[b][0]).abs().max() for a, b in ((1, 2), (2, 6))]
    assert min(differences) > 1e-4 * frames[6][0].abs().max()


@pytest.mark.parametrize("sequence", [{}, {"stream": True, "start": "previous"}, {"carryover": "mixing", "window": 4}])
def test_resume_is_exact_in_the_midst_of_a_sequence(videos, tmp_path, sequence):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = settings(videos, sequence=sequence)
    train_run(run, whole)
    _stop_after(run, parts, 4)
    assert read_checkpoint(parts / LAST)["task"]["age"].max() > 0
    train_run(run, parts, resume=True)
    expected, found = (read_checkpoint(path / LAST) for path in (whole, parts))
    for part in ("model", "carryover", "task"):
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), (part, name)


def _stop_after(run, folder, updates):
    """Train and be interrupted, as by Ctrl-C, after so many updates."""
    from itervae.training import session

    real, seen = session.SequenceTask.batch, []

    def batch(self, update):
        if update == updates and not seen:
            seen.append(update)
            raise KeyboardInterrupt
        return real(self, update)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.SequenceTask, "batch", batch)
        with pytest.raises(KeyboardInterrupt):
            train_run(run, folder)


def test_a_carryover_learns_on_a_frozen_model_and_comes_back(videos, tmp_path):
    first = settings(videos, sequence={"carryover": "none"}, updates=60, validate_every=60)
    before = train_run(first, tmp_path / "static").validation["free_energy"]
    frozen = settings(videos, freeze=tmp_path / "static", updates=40, validate_every=40, model=PoissonVAESettings())
    after = train_run(frozen, tmp_path / "frozen").validation["free_energy"]
    assert after < before - 1  # nats per frame
    static, _, none = itervae.load_sequence(tmp_path / "static")
    model, engine, carryover = itervae.load_sequence(tmp_path / "frozen")
    assert type(none).__name__ == "NoCarryover"
    assert isinstance(carryover, LinearMap)
    for name, value in static.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    source = load_source(frozen.data, 0)
    with torch.no_grad():
        found = filter_sequence(model, engine, source.validation, carryover).free_energy
    task = SequenceTask(frozen, model, engine, source, Unroll(), Processes(), carryover)
    tubes = len(task.tubes)
    assert validate(task, 0)["free_energy"] == pytest.approx(found[:tubes].mean().item(), rel=1e-6)
    assert (found[:, 0] > 0).all()


@pytest.mark.usefixtures("pictures")
def test_a_run_leaves_a_picture_of_spikes(videos, tmp_path):
    train_run(settings(videos, updates=1), tmp_path / "run")
    assert (tmp_path / "run" / "spikes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("inference", "engine", "model", "carryover"),
    [
        ("amortized", {}, GaussianVAESettings(latents=8), "leaky"),
        ("recurrent", {"steps": 2}, PoissonVAESettings(latents=16), "gated"),
        ("lista", {"steps": 2}, PoissonVAESettings(latents=16), "adaptive"),
    ],
)
def test_engines_and_families_train_on_sequences(videos, tmp_path, inference, engine, model, carryover):
    run = settings(videos, inference, engine, model, {"carryover": carryover}, updates=3)
    summary = train_run(run, tmp_path / "run")
    assert np.isfinite(summary.validation["free_energy"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["split"] == "validation"


def test_what_does_not_fit_is_refused(videos, tmp_path, monkeypatch):
    def run(message, **given):
        with monkeypatch.context() as patch:  # before data are read, which may take hours
            patch.setattr("itervae.training.start.load_source", None)
            with pytest.raises(InputError, match=message):
                train_run(settings(videos, **given), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    run("a sparse code has no posterior to hand", model=SparseCodingSettings(latents=24))
    gaussian = {"inference": "amortized", "engine": {}, "model": GaussianVAESettings(latents=8)}
    run("carryover LinearMap mixes rates, and this model has a Gaussian", **gaussian)
    unfit = {"sequence": {"carryover": "mixing"}, "carryover": LinearMapSettings("diagonal")}
    run("carryover is a LinearMapSettings; expected NoSettings.*for mixing", **unfit)
    run("`rank=4` needs `carryover=linear` `map=low-rank`", carryover=LinearMapSettings(rank=4))
    run("`rank=32` needs `carryover=linear` `map=low-rank`", carryover=LinearMapSettings(rank=32))
    run("`map` is 'fool'; expected one of diagonal, low-rank, full", carryover=LinearMapSettings("fool"))
    run("`rank` is 0; expected a number ≥ 1", carryover=LinearMapSettings("low-rank", 0))
    run("`window` is 0; expected a number ≥ 1", sequence={"window": 0})
    run("`window=9` does not fit sequences of 6 frames", sequence={"window": 9})
    still = RunSettings("lca-unrolled", DataSettings(), sequence=SequenceSettings(carryover="leaky"))
    with pytest.raises(InputError, match="`carryover` is for sequences, and `data=photos` has no order"):
        train_run(still, tmp_path / "run")
    train_run(settings(videos, updates=1), tmp_path / "sequences")
    frozen = {"freeze": tmp_path / "sequences", "model": PoissonVAESettings(), "sequence": {"carryover": "none"}}
    with pytest.raises(InputError, match="there is nothing to train"):
        train_run(settings(videos, **frozen), tmp_path / "run")
