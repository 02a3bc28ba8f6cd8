"""Run folders: one training at a time, nothing left in the way, settings and data that are those of
the run."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from itervae import InputError, files
from itervae.arguments import check_seed
from itervae.config import parse_train
from itervae.data import DataSettings
from itervae.inference import ENGINES
from itervae.model import PoissonVAESettings
from itervae.training import LAST, RunSettings, TrainingSettings, read_checkpoint, start, train_run
from itervae.training import lock as lock_module
from itervae.training.lock import locked


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 6)))
    return path


def settings(path, data=None, **training):
    training = {"updates": 4, "batch_size": 10, "validate_every": 2, "device": "cpu", **training}
    return RunSettings(
        "lca-unrolled",
        data or DataSettings(data="array", data_path=path),
        PoissonVAESettings(latents=5),
        ENGINES["lca-unrolled"].Settings(steps=2),
        TrainingSettings(**training),
    )


def resumed(*args):
    """Settings and folder, as the command has them."""
    run, _, folder = parse_train(["--resume", *map(str, args)])
    return run, folder


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_run(settings(rows), folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of a run that has ended."""
    return shutil.copytree(whole, tmp_path / "run")


HOLDER = "import sys, time; from pathlib import Path; from itervae.training.lock import locked\n"
HOLDER += "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"


def test_one_training_at_a_time(rows, run):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        message = rf"another process \({other.pid}\) trains in run folder {run}"
        with pytest.raises(InputError, match=message):
            train_run(settings(rows, updates=6), run, resume=True)
        with pytest.raises(InputError, match=message):
            train_run(settings(rows), run)
        assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.name != ".lock"}
    finally:
        other.kill()
        other.wait()
    assert train_run(settings(rows, updates=6), run, resume=True).updates == 6  # a killed process leaves no lock


def test_a_run_that_is_begun_meanwhile_is_not_overwritten(rows, whole, tmp_path, monkeypatch):
    load_source = start.load_source

    def slow(*args):
        shutil.copytree(whole, tmp_path / "run")  # by another process, which is done with it
        return load_source(*args)

    monkeypatch.setattr(start, "load_source", slow)
    with pytest.raises(InputError, match="there is a run in"):
        train_run(settings(rows), tmp_path / "run")


def test_a_system_without_locks_says_so(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "fcntl", None)
    with pytest.warns(UserWarning, match="run folders cannot be locked here"):
        train_run(settings(rows, updates=1), tmp_path / "run")


def test_what_killed_processes_left_is_cleared_away(rows, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    left = folder / ".config.yaml.4000000.tmp"  # alone it was in the way of a run
    left.write_text("inference")
    train_run(settings(rows, updates=2), folder)
    assert not left.exists()
    for name in (f".{LAST}.4000000.tmp", ".samples.png.1.tmp", ".metrics.jsonl.4000001.tmp"):
        (folder / name).write_bytes(b"half")
    (folder / ".mine.tmp").write_bytes(b"")
    train_run(settings(rows, updates=4), folder, resume=True)
    assert [path.name for path in folder.glob(".*.tmp")] == [".mine.tmp"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        train_run(settings(rows), tmp_path / "notes")


def test_elsewhere_only_what_is_stale_and_of_the_same_name_is_cleared(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale, other = tmp_path / f".codes.npz.{ended.pid}.tmp", tmp_path / f".gap.json.{ended.pid}.tmp"
    alive, old = tmp_path / ".codes.npz.1.tmp", tmp_path / f".codes.npz.{os.getppid()}.tmp"
    for path in (stale, other, alive, old):
        path.write_bytes(b"half")
    os.utime(old, times=(time.time() - 2 * files.STALE_SECONDS,) * 2)
    files.write_bytes(tmp_path / "codes.npz", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, other.name, "codes.npz"])


def test_a_setting_changed_by_hand_is_refused_or_taken(run):
    config = run / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("latents: 5", "latents: 50"))
    with pytest.raises(InputError, match=r"latents is 50 in .*config.yaml and 5 in the checkpoint .* put it back, or"):
        resumed(run)
    assert "latents: 50" in config.read_text()
    config.write_text(before.replace("updates: 4", "updates: 7").replace("beta: 1.0", "beta: 1e0"))
    changed, folder = resumed(run)
    assert changed.training.updates == 7  # it may change, and this is where it was changed
    assert resumed(run, "--updates", "8")[0].training.updates == 8
    assert train_run(changed, folder, resume=True).updates == 7
    config.write_text(before + "latnets: 3\n")
    with pytest.raises(InputError, match=r"'latnets' is not a setting.*can also be deleted"):
        resumed(run)
    config.unlink()
    assert resumed(run, "--updates", "9")[0].training.updates == 9


def test_an_empty_config_says_so(tmp_path):
    for text in ("", "# latents: 3\n", "{}\n"):
        (tmp_path / "empty.yaml").write_text(text)
        with pytest.raises(InputError, match=r"empty.yaml is empty; expected lines 'name: value', or leave it out"):
            parse_train(["--config", str(tmp_path / "empty.yaml")])


def test_paths_hold_from_any_folder_and_can_be_changed(rows, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    shutil.copy(rows, tmp_path / "there" / "x.npy")
    np.save(tmp_path / "there" / "val.npy", np.random.default_rng(1).normal(size=(20, 6)))
    monkeypatch.chdir(tmp_path / "there")
    run = tmp_path / "run"
    train_run(settings(None, DataSettings(data="array", data_path="x.npy", val_path="val.npy")), run)
    for flat in (yaml.safe_load((run / "config.yaml").read_text()), read_checkpoint(run / LAST)["config"]):
        assert flat["data_path"] == str(tmp_path / "there" / "x.npy")
        assert flat["val_path"] == str(tmp_path / "there" / "val.npy")
    monkeypatch.chdir(tmp_path)
    train_run(*resumed(run, "--updates", "5"), resume=True)
    (tmp_path / "there").rename(tmp_path / "moved")
    with pytest.raises(
        InputError, match=rf"the data of run {run} are not at .*there/x.npy, the data_path in its config"
    ):
        train_run(*resumed(run, "--updates", "6"), resume=True)
    with pytest.raises(InputError, match=r"the val_path in its config.yaml.*with `val_path`"):
        train_run(*resumed(run, "--updates", "6", "--data-path", "moved/x.npy"), resume=True)
    places = ("--data-path", "moved/x.npy", "--val-path", "moved/val.npy")
    train_run(*resumed(run, "--updates", "6", *places), resume=True)
    train_run(*resumed(run, "--updates", "7"), resume=True)  # it knows them now
    np.save("moved/val.npy", np.load("moved/val.npy") + 1)
    with pytest.raises(InputError, match=r"have changed since its checkpoint \(validation_content"):
        train_run(*resumed(run, "--updates", "8"), resume=True)


def test_another_budget_says_what_it_does_to_the_schedule(run, capsys):
    train_run(*resumed(run, "--updates", "8"), resume=True)
    said = capsys.readouterr().err
    assert "the run was at 100% of its schedule and goes on at 50%, with learning rate 0.015 after 1e-05" in said
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [2, 4, 6, 8]


def test_a_batch_larger_than_the_data_is_said(rows, tmp_path, capsys):
    train_run(settings(rows, batch_size=50, updates=1), tmp_path / "large")
    assert "a batch of 50 is more than the 48 rows to train on" in capsys.readouterr().err
    train_run(settings(rows, batch_size=48, updates=1), tmp_path / "fits")
    assert "is more than" not in capsys.readouterr().err


def test_seeds_out_of_range_are_refused(rows, tmp_path):
    for seed in (-1, 2**63, 2**64, 10**30):
        with pytest.raises(InputError, match=rf"`seed` is {seed}; expected a whole number from 0 to 2\^63 - 1"):
            train_run(settings(rows, seed=seed), tmp_path / "run")
    train_run(settings(rows, seed=2**63 - 1, updates=1), tmp_path / "run")
    check_seed(0)
    with pytest.raises(InputError, match="seed of the split is -3"):
        check_seed(-3, "seed of the split")


@pytest.mark.parametrize("latents", [10**8, 10**12, 10**16, 10**20])
def test_want_of_memory_is_one_sentence(rows, tmp_path, latents):
    wide = np.arange(8000.0).reshape(4, 2000)
    np.save(tmp_path / "x.npy", wide)
    run = settings(tmp_path / "x.npy", batch_size=2)
    run.model.latents = latents
    with pytest.raises(InputError, match=rf"not enough memory for {latents} latents and batches of 2 .*smaller `lat"):
        train_run(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_lock_is_held_within_a_process_too(tmp_path):
    with locked(tmp_path), pytest.raises(InputError, match="takes one at a time"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
