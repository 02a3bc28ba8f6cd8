"""A run that is stopped anywhere and resumed is the run that was left alone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from itervae import InputError
from itervae.data import DataSettings
from itervae.inference import ENGINES
from itervae.model import PoissonVAESettings
from itervae.training import BEST, LAST, RunSettings, TrainingSettings, monitor, read_checkpoint, session, train_run
from itervae.training.reports import has_finished


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 6)))
    return path


def settings(path, updates=30):
    """Validated at 10, 20 and 30; the second validation is better than the first, as those after
    the ramp are."""
    return RunSettings(
        "amortized",
        DataSettings(data="array", data_path=path),
        PoissonVAESettings(latents=5),
        ENGINES["amortized"].Settings(),
        TrainingSettings(
            updates=updates, batch_size=10, validate_every=10, device="cpu", estimator="eat", beta_ramp=0.5, lr=0.01
        ),
    )


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_run(settings(rows), folder)
    return folder


class Killed(BaseException):
    pass


def state(folder, name):
    saved = read_checkpoint(folder / name)
    flat = {key: value for key, value in saved.items() if key not in ("seconds", "config")}
    return torch.utils._pytree.tree_flatten(flat)


def assert_same(whole, run):
    for name in (LAST, BEST):
        expected, found = state(whole, name), state(run, name)
        assert expected[1] == found[1]
        for one, other in zip(expected[0], found[0], strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other or one != one
    lines = [
        [
            {key: value for key, value in json.loads(line).items() if key not in ("seconds", "data_per_s")}
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (whole, run)
    ]
    assert lines[0] == lines[1]
    assert not list(run.glob(".*.tmp"))


def killing(monkeypatch, owner, name, count, after):
    """Have a function end the process, so to speak, at its n-th call: before it does anything, or
    when it is done."""
    real, calls = getattr(owner, name), []

    def watched(*args, **named):
        calls.append(None)
        if len(calls) == count and not after:
            raise Killed
        result = real(*args, **named)
        if len(calls) == count:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, watched)


WRITES = 9  # of checkpoints: before each validation and after it, and the best one in between


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [
        *((session, "validate", count) for count in (1, 2, 3)),
        *((monitor.Monitor, "record", count) for count in (1, 2, 3, 4)),
        *((session, "write_checkpoint", count) for count in range(1, 1 + WRITES)),
        (session, "draw_pictures", 1),
        (session, "write_summary", 1),
    ],
)
def test_stopped_anywhere(rows, whole, tmp_path, monkeypatch, owner, name, count, after):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        killing(patch, owner, name, count, after)
        try:
            train_run(settings(rows), run)
        except Killed:
            assert not has_finished(run) or (name, after) == ("write_summary", True)
        else:
            assert name == "write_checkpoint"  # there are fewer than that
    if not has_finished(run):
        summary = train_run(settings(rows), run, resume=(run / LAST).is_file())
        assert summary.validation == json.loads((whole / "summary.json").read_text())["validation"]
    assert has_finished(run)
    assert_same(whole, run)
    with pytest.raises(InputError, match="has ended"):
        train_run(settings(rows), run, resume=True)


def test_stopped_again_and_again(rows, whole, tmp_path, monkeypatch):
    run, begun = tmp_path / "run", False
    for count in range(1, 40):
        with monkeypatch.context() as patch:
            killing(patch, session, "write_checkpoint", 1 + count % 2, after=count % 3 == 0)
            killing(patch, session, "validate", 1 + count % 2, after=count % 5 == 0)
            try:
                train_run(settings(rows), run, resume=begun)
                break
            except Killed:
                begun = (run / LAST).is_file()
    assert has_finished(run)
    assert_same(whole, run)


def test_ctrl_c_in_a_validation_has_it_done_first_of_all(rows, whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(session, "validate", lambda *_: {})  # as one that is stopped
        stopped = train_run(settings(rows), run)
    assert not stopped.finished
    assert stopped.updates == 10
    train_run(settings(rows), run, resume=True)
    assert_same(whole, run)


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_a_run_whose_pictures_are_missing_gets_them(rows, tmp_path):
    run = tmp_path / "run"
    train_run(settings(rows), run)
    pictures = {path.name: path.read_bytes() for path in run.glob("*.png")}
    assert set(json.loads((run / "summary.json").read_text())["pictures"]) == set(pictures)
    (run / "curves.png").unlink()
    assert train_run(settings(rows), run, resume=True).finished
    (run / "summary.json").unlink()
    assert train_run(settings(rows), run, resume=True).finished
    assert {path.name: path.read_bytes() for path in run.glob("*.png")} == pictures
    with pytest.raises(InputError, match="has ended"):
        train_run(settings(rows), run, resume=True)


def test_a_run_that_goes_on_beyond_its_end_has_not_finished_meanwhile(rows, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_run(settings(rows, 20), run)
    killing(monkeypatch, session, "validate", 2, after=False)
    with pytest.raises(Killed):
        train_run(settings(rows, 40), run, resume=True)
    assert not has_finished(run)


def test_a_copy_of_the_best_checkpoint_can_be_gone_on_from(rows, tmp_path):
    run = tmp_path / "run"
    train_run(settings(rows), run)
    (run / LAST).write_bytes(b"PK damaged")
    with pytest.raises(InputError, match=rf"use {run / BEST}; a copy of it in place of {run / LAST} is what `resume`"):
        train_run(settings(rows, 40), run, resume=True)
    shutil.copy(run / BEST, run / LAST)
    assert train_run(settings(rows, 40), run, resume=True).updates == 40


@pytest.mark.slow
def test_the_script(tmp_path):
    """Real kills, of stills, sequences and a stream, and Ctrl-C twice."""
    script = Path(__file__).parents[2] / "scripts" / "kill"
    command = [sys.executable, script, "--kills", "9", "--interrupts", "3", "--seed", "5", "--work", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"9 kills in \d+ runs, 0 differences", done.stdout)
    assert re.search(r"3 times Ctrl-C twice .* 0 faults", done.stdout)
