"""Runs on data that are read from a file, whose batches are cut ahead of time: the same runs, and
no thread is left."""

import json
import threading

import numpy as np
import pytest
import torch

from itervae import InputError
from itervae.data import DataSettings, pixels, pools
from itervae.inference import ENGINES
from itervae.model import PoissonVAESettings
from itervae.sequence import SequenceSettings
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, train_run
from itervae.training.tasks import SequenceTask, StillTask, Task

RUNS = {
    "images": {},
    "windows": {"carryover": "linear", "window": 2},
    "stream": {"carryover": "linear", "window": 3, "stream": True},
}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Four stacks of 20 frames in which a texture moves by a pixel a frame; and some of their
    frames as images."""
    folder = tmp_path_factory.mktemp("stacks")
    moving = {}
    for number in range(4):
        texture = np.kron(np.random.default_rng(number).integers(0, 256, (12, 20)), np.ones((2, 2)))
        moving[f"s{number}"] = np.stack([texture[:, t : t + 20] for t in range(20)]).astype(np.uint8)
    np.savez(folder / "video.npz", **moving)
    np.save(folder / "images.npy", np.concatenate([stack[::7] for stack in moving.values()]))
    return folder


def settings(stacks, name):
    images = name == "images"
    data = (
        DataSettings(data="images", data_path=stacks / "images.npy", patch_size=6)
        if images
        else DataSettings(data="video", data_path=stacks / "video.npz", frames=6, patch_size=6, val_sequences="s3")
    )
    return RunSettings(
        "lca-unrolled",
        data,
        PoissonVAESettings(latents=12),
        ENGINES["lca-unrolled"].Settings(steps=3),
        TrainingSettings(updates=7, batch_size=10, validate_every=4, device="cpu"),
        SequenceSettings(**RUNS[name]),
    )


@pytest.fixture
def from_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "cache"))
    return lambda wanted: monkeypatch.setattr(pixels, "MEMORY_SHARE", 0 if wanted else 0.25)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def weights(folder):
    saved = read_checkpoint(folder / LAST)
    return [value for part in ("model", "carryover", "task") for value in saved[part].values()]


def interrupted(self, update, batch=Task.batch):
    if update == 5:  # the batches after it have been cut
        raise KeyboardInterrupt
    return batch(self, update)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_from_a_file_is_the_run_from_memory_and_goes_on_exactly(stacks, tmp_path, from_file, name, monkeypatch):
    from_file(False)
    train_run(settings(stacks, name), tmp_path / "memory")
    from_file(True)
    kind, seen = StillTask if name == "images" else SequenceTask, []
    cut = kind._cut

    def watched(self, update):
        seen.append((update, threading.current_thread().name))
        return cut(self, update)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_cut", watched)
        train_run(settings(stacks, name), tmp_path / "file")
    assert [update for update, _ in seen][:7] == list(range(7))
    assert all(thread.startswith("prefetch") for _, thread in seen)
    with monkeypatch.context() as patch:
        patch.setattr(Task, "batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(settings(stacks, name), tmp_path / "parts")
    assert threads() == []
    train_run(settings(stacks, name), tmp_path / "parts", resume=True)
    assert threads() == []
    expected = weights(tmp_path / "memory")
    assert len(expected) > 3
    for other in ("file", "parts"):
        for found, value in zip(weights(tmp_path / other), expected, strict=True):
            assert torch.equal(found, value)


def test_what_goes_wrong_in_the_thread_ends_the_run_and_the_thread(stacks, tmp_path, from_file, monkeypatch):
    from_file(True)
    batch = pools.PoolSource.batch

    def failing(self, index, *given):
        if index == 5:
            raise InputError("the disk is gone")
        return batch(self, index, *given)

    monkeypatch.setattr(pools.PoolSource, "batch", failing)
    with pytest.raises(InputError, match="the disk is gone"):
        train_run(settings(stacks, "images"), tmp_path / "run")
    assert threads() == []
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if line["split"] == "validation"] == [4]  # it came as far as it could


def test_a_run_that_diverges_leaves_no_thread(stacks, tmp_path, from_file, monkeypatch):
    from_file(True)

    def failing(*_):
        assert len(threads()) == 1
        raise InputError("not finite")

    monkeypatch.setattr(StillTask, "step", failing)
    with pytest.raises(InputError, match="training diverged at update 0: not finite"):
        train_run(settings(stacks, "images"), tmp_path / "run")
    assert threads() == []
