"""scripts/gpu, on a CPU: its parts run, its results stand where they are said, and a second call
goes on with what is missing."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu"


def call(output, *options):
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--output", str(output), *options]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_parts_are_kept_and_not_done_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "carried-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sitecustomize.py", f"open({str(tmp_path / 'seen')!r}, 'w').close()")
    wheels = ["--wheels", str(tmp_path)]
    first = call(tmp_path, "--parts", "sampler", *wheels)
    assert first.returncode == 0, first.stdout + first.stderr
    assert (tmp_path / "seen").is_file()  # what a wheel holds was found by the part
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert found["sampler"]["passed"]
    assert found["sampler"]["machine"]["device"] == "cpu"
    assert len(found["sampler"]["rows"]) == 9
    assert all(row["off in standard errors"]["cpu"] < 6 for row in found["sampler"]["rows"])
    second = call(tmp_path, "--parts", "sampler", "gap")
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.splitlines() == ["sampler: there already", "gap ... passed"]
    results = json.loads((tmp_path / "cpu.json").read_text())
    assert results["sampler"] == found["sampler"]
    assert results["gap"]["relative difference"]["free_energy_optimal"] == 0
    assert results["gap"]["certificate"] <= 1e-6
    assert "| gap | passed |" in (tmp_path / "cpu.md").read_text()


@pytest.mark.slow
def test_suites_are_held_against_the_device_and_the_goals(tmp_path):
    suites = ("roofline", "solve", "draws", "train", "memory", "graphs")
    found = call(tmp_path, "--parts", *suites)
    assert found.returncode == 0, found.stdout + found.stderr
    results = json.loads((tmp_path / "cpu.json").read_text())
    for suite in suites[:4]:
        held = [row for row in results[suite]["rows"] if "over the device" in row]
        assert held
        assert all(row["GB/s"] > 0 for row in held)
        assert suite == "draws" or all(row["TFLOP/s"] > 0 for row in held)
    assert all(row["apart"] == 0 for row in results["graphs"]["rows"])  # there is no graph on a CPU
    lines = (tmp_path / "cpu.md").read_text().splitlines()
    goals = [line for line in lines if "≥" in line or "≤" in line]
    assert [("measured on cpu" in line, "not measured" in line) for line in goals if "TF32" in line] == [
        (False, True)
    ] * 2
    assert all("measured on cpu" in line for line in goals if "TF32" not in line)


@pytest.mark.slow
def test_a_part_that_fails_is_said_and_does_not_stop_the_others(tmp_path):
    (tmp_path / "phi.npz").write_bytes(b"no dictionary")
    found = call(tmp_path, "--parts", "gap", "--dictionary", str(tmp_path / "phi.npz"))
    assert found.returncode == 1
    assert "gap ... FAILED itervae: " in found.stdout
    assert not json.loads((tmp_path / "cpu.json").read_text())["gap"]["passed"]
    missing = call(tmp_path, "--wheels", str(tmp_path / "none"))
    assert missing.returncode == 2
    assert "is no folder; expected one that holds .whl files" in missing.stderr
