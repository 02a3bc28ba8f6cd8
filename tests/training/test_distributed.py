"""Data-parallel runs: two processes (gloo) are one process on the joint batch; resume; who says and
writes what."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_runs import HALF, RUNS, UPDATES, in_double

from itervae.errors import InputError
from itervae.training import LAST, read_checkpoint, start, train_run
from itervae.training.choices import choose_device
from itervae.training.distributed import Processes

SCRIPT = Path(__file__).with_name("distributed_runs.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def run(command: list[str], **options):
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs made by one process, by two, and the first half by two and the rest by one."""
    folder = tmp_path_factory.mktemp("runs")
    torchrun = subprocess.Popen(
        [*TORCHRUN, str(SCRIPT), str(folder / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    run([sys.executable, str(SCRIPT), str(folder / "one")])
    _, said = torchrun.communicate(timeout=120)
    assert torchrun.returncode == 0, said
    return folder


def parameters(folder):
    saved = read_checkpoint(folder / LAST)
    return {f"{part} {name}": value for part in ("model", "engine", "carryover") for name, value in saved[part].items()}


def assert_same(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("name", [name for name in RUNS if name != "sampled"])
def test_two_processes_are_one_on_the_joint_batch(runs, name):
    one, two = (torch.load(runs / where / name / "gradients0.pt") for where in ("one", "two"))
    other = torch.load(runs / "two" / name / "gradients1.pt")
    if name != "closed":  # nothing has a gradient there
        assert len(one) > 1
        assert any(gradient.abs().max() > 1e-3 for gradient in one)
    for first, second, third in zip(one, two, other, strict=True):
        assert first.dtype == torch.float64
        assert torch.allclose(first, second, rtol=1e-10, atol=1e-10)
        assert torch.equal(second, third)  # both processes take the same step
    assert_same(parameters(runs / "one" / name), parameters(runs / "two" / name), 1e-10)


@pytest.mark.parametrize("name", RUNS)
def test_resume_with_the_same_number_of_processes_is_exact(runs, name):
    whole, resumed = (parameters(runs / "two" / folder) for folder in (name, f"{name}-resumed"))
    assert_same(whole, resumed, 0)


def test_metrics_are_those_of_all_rows_and_one_process_writes(runs):
    for name in ("solver", "sequence"):
        lines = [
            [json.loads(line) for line in (runs / where / name / "metrics.jsonl").read_text().splitlines()]
            for where in ("one", "two")
        ]
        one, two = ([line for line in found if line["split"] == "validation"] for found in lines)
        assert [line["update"] for line in two] == [HALF, UPDATES]
        for first, second in zip(one, two, strict=True):
            for value in ("free_energy", "free_energy_se", "free_energy_p99", "free_energy_max", "certificate_max"):
                assert first[value] == pytest.approx(second[value], rel=1e-9), value
        assert json.loads((runs / "two" / name / "summary.json").read_text())["processes"] == 2


def test_another_number_of_processes_goes_on_with_the_same_batches(runs, tmp_path, monkeypatch, capsys):
    """What is not sampled comes out the same, the state of sequences too; that samples differ is
    said."""
    monkeypatch.setattr(start, "load_source", in_double)
    try:
        for name in ("solver", "sequence"):
            folder = tmp_path / name
            shutil.copytree(runs / "two" / f"{name}-half", folder)
            train_run(RUNS[name], folder, resume=True)
            assert_same(parameters(folder), parameters(runs / "one" / name), 1e-10)
            assert "number of processes" in capsys.readouterr().err
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path):
    """The same command line; one table and one run folder."""
    options = ["--patch-size", "6", "--latents", "8", "--updates", "4", "--batch-size", "6", "--device", "cpu"]
    done = run([*TORCHRUN, "-m", "itervae", "train", *options], cwd=tmp_path)
    assert done.stdout.count("free energy") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "dictionary.png").exists()
    assert "2 processes" in done.stderr


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match="`batch_size=7` cannot be divided evenly among 2"):
        Processes(0, 2).rows(7)
    rows = [Processes(rank, 3).rows(12) for rank in range(3)]
    assert [value for part in rows for value in range(12)[part]] == list(range(12))


def test_a_process_has_draws_of_its_own():
    draws = [torch.rand(3, generator=Processes(rank, 3).generator(torch.device("cpu"), 5)) for rank in range(3)]
    assert torch.equal(draws[0], torch.rand(3, generator=torch.Generator().manual_seed(5)))
    assert not any(torch.equal(draws[i], draws[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_devices_of_several_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert choose_device("auto", 1) == torch.device("cuda:1")
    assert choose_device("cpu", 1) == torch.device("cpu")
    with pytest.raises(InputError, match="2 GPUs for at least 3 processes"):
        choose_device("cuda", 2)
    with pytest.raises(InputError, match="`device=cuda:1` is one GPU for several processes"):
        choose_device("cuda:1", 0)
