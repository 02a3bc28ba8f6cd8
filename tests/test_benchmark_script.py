"""scripts/benchmark: what its figures are made of, and that it writes what it promises."""

import importlib
import importlib.util
import json
import subprocess
import sys
import types
from argparse import Namespace
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
import torch
from families import seeded

from itervae.inference import certificate

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark"
PARTS = ("goals", "lasso", "machine", "peers", "report", "roofline", "sampler", "scaling", "timing", "train")


@pytest.fixture(scope="module")
def script() -> Iterator[Namespace]:
    """The command as `command`, and its modules by name."""
    before = list(sys.path)
    loader = SourceFileLoader("benchmark", str(SCRIPT))
    spec = importlib.util.spec_from_loader("benchmark", loader)
    command = importlib.util.module_from_spec(spec)
    loader.exec_module(command)
    yield Namespace(command=command, **{name: importlib.import_module(f"benchmarks.{name}") for name in PARTS})
    sys.path[:] = before


@pytest.mark.parametrize("signed", [True, False])
def test_the_gap_is_zero_at_the_optimum_and_bounds_the_distance_elsewhere(script, signed):
    """Orthonormal atoms: the optimum is the soft threshold of Φᵀx."""
    atoms = torch.linalg.qr(torch.randn(12, 8, generator=seeded(0), dtype=torch.float64))[0]
    x, threshold = 3 * torch.randn(50, 12, generator=seeded(1), dtype=torch.float64), 1.0
    drive = x @ atoms
    best = drive.sign() * (drive.abs() - threshold).clamp_min(0) if signed else (drive - threshold).clamp_min(0)

    def energy(codes):
        return 0.5 * (x - codes @ atoms.mT).square().sum(1) + threshold * codes.abs().sum(1)

    assert abs(script.lasso.largest_gap(x, atoms, best, threshold, signed)) < 1e-12
    off = best * 1.1
    gap = script.lasso.largest_gap(x, atoms, off, threshold, signed)
    assert (energy(off) - energy(best)).max() <= gap
    cell = script.lasso.Cell(x, atoms, threshold, signed)
    potentials = torch.where(off == 0, drive, off + off.sign() * threshold)
    certified = certificate(cell.model, x, cell.model.posterior(potentials)).max()
    assert gap == pytest.approx(certified.item(), rel=1e-9)
    assert script.lasso.largest_gap(x, atoms, torch.zeros_like(best), 1e3, signed) == 0
    negative = script.lasso.largest_gap(x, atoms, -best.abs() - 1, threshold, signed)
    assert np.isfinite(negative) == signed


@pytest.mark.parametrize("signed", [True, False])
def test_sides_reach_the_gap_that_they_are_listed_for(script, signed, unchecked):
    x, atoms = script.lasso.random_data(10, signed)
    cold = script.lasso.Cell(x, atoms[:, :64], 0.75, signed)
    for cell in (cold, cold.warmed()):
        for name, peer in script.peers.PEERS.items():
            if peer.package != "sklearn" or script.peers.fits(name, cell.problem):
                continue
            found, least = script.lasso.reaching(cell, name, (1e-2, 1e-6))
            assert all(cell.gap(side.solve()) <= gap for gap, sides in found.items() for side in sides)
            assert found[1e-6]
            assert least <= 1e-6
        for gap, sides in cell.ours((1e-2, 1e-6), "cpu").items():
            assert all(cell.gap(side.solve()) <= gap for side in sides)
    assert script.peers.fits("scikit-learn lars", cell.problem) == "takes no start"


def test_ratios_are_of_each_round(script):
    times = {"one": [2.0, 4.0, 30.0], "other": [1.0, 1.0, 10.0]}
    assert script.timing.ratio(times, "one", "other") == {"median": 3.0, "low": 2.5, "high": 3.5}
    assert script.timing.spread([4.0], 2) == {"median": 8.0, "low": 8.0, "high": 8.0}


def test_rounds_end_with_the_budget_but_one_is_done(script, monkeypatch):
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert {name: len(found) for name, found in script.timing.alternate(sides, 3).items()} == {"a": 3, "b": 3}
    assert "".join(calls) == "abababab"
    monkeypatch.setitem(script.timing.BUDGET, "cpu", 0.0)
    assert len(script.timing.alternate(sides, 3)["a"]) == 1


def test_the_floor_is_the_larger_of_two(script):
    setup = script.machine.Setup("cpu", 1, True, {"bytes/s": 1e9, "flop/s": 1e10})
    found = script.machine.achieved([2.0], 1e9, 1e9, setup)
    assert found["GB/s"] == 0.5
    assert found["TFLOP/s"] == 0.0005
    assert found["over the device"]["median"] == 2
    assert script.machine.achieved([2.0], 1e8, 1e10, setup)["over the device"]["median"] == 2
    assert script.machine.version("no-such-package-at-all") == "absent"


def test_the_roofline_of_an_h200(script):
    """6.4 million patches/s in FP32 and 47 million in TF32 by the products; 59 million by memory if
    steps are fused."""
    roofline, h200 = script.roofline, script.roofline.H200
    assert roofline.operations(512, 256, 20) == pytest.approx(10.5e6, rel=0.01)
    assert roofline.operations(256, 256, 1) == 2 * 256**2  # by the Gram matrix
    single, half = (roofline.limits(h200, name, latents=512, size=256, steps=20) for name in ("flop/s", "flop/s, TF32"))
    assert single["limit by products"] == pytest.approx(6.4e6, rel=0.01)
    assert half["limit by products"] == pytest.approx(47e6, rel=0.01)
    assert h200["bytes/s"] / roofline.moved("fused", 512, 256, 20) == pytest.approx(59e6, rel=0.01)
    assert single["limit by kernels"] < single["limit if fused"] == single["limit by products"]
    assert roofline.moved("kernels", 256, 256, 1) == 4 * 15 * 256
    assert roofline.moved("kernels", 512, 256, 2) == 4 * (25 * 512 + 8 * 256)


def test_bytes_of_tensor_operations_are_counted(script):
    a, b = torch.zeros(10, 8), torch.zeros(8)
    assert script.roofline.counted(lambda: a + b) == 4 * (80 + 8 + 80)
    assert script.roofline.counted(lambda: a.mT[1:].unsqueeze(0)) == 0
    assert script.roofline.counted(lambda: b.expand(10, 8) + 0) == 4 * (8 + 80)
    model, x = script.roofline.random_problem(64, 128)
    assert script.roofline.in_tensors(model, x) > 3 * script.roofline.moved("kernels", 64, 32, 1)


def test_goals_say_what_was_measured_and_where(script):
    def spread(value):
        return {"median": value, "low": value, "high": value}

    about = {"passed": True, "machine": {"device": "cpu"}}
    cells = [
        {"ours over floor": spread(over), "detail": {"cell": {"indicator": name}}}
        for over, name in ((1.2, "cubic"), (9.0, "sigmoid"))
    ]
    results = {
        "roofline": {**about, "rows": [{"what": "FP32", "patches/s": spread(1.6e6), "largest gap": 1e-4}]},
        "draws": {**about, "rows": cells},
        "train": {"passed": False, "why": "not done"},
    }
    rows = {row["goal"]: row for row in script.goals.goals(results)}
    speed = rows["patches/s, FP32, 20 LCA steps"]
    assert (speed["achieved over asked"], speed["where"]) == (0.5, "measured on cpu, not reached")
    assert rows["largest gap, FP32, nats"]["reached"]
    assert rows["the sampler over torch.poisson, cubic"]["achieved"] == 1.2
    assert all("achieved" not in rows[name] for name in rows if "TF32" in name or "update" in name)


def test_tables(script):
    rows = [
        {"suite": "s", "part": "a", "what": "one", "ms": {"median": 1.234, "low": 1.0, "high": 23456.7}, "n": None},
        {"suite": "s", "part": "a", "what": "two", "ms": "absent", "n": 3, "detail": {"hidden": 1}},
        {"suite": "s", "part": "b", "what": "three", "MB": 1e-9},
    ]
    assert script.report.tables(rows).splitlines() == [
        "| what | ms | n |",
        "|---|---|---|",
        "| one | 1.23 (1 to 23457) |  |",
        "| two | absent | 3 |",
        "",
        "| what | MB |",
        "|---|---|",
        "| three | 1e-09 |",
    ]


def test_what_would_not_fit_is_left_out_with_a_reason(script):
    assert script.sampler.too_large(1000, 60, 70, 1e9) == {}
    found = script.sampler.too_large(10**7, 60, 70, 4e9)
    assert list(found) == ["published", "gumbel-softmax"]
    assert found["published"] == "left out: 38 GB, more than 0.75 of 4 GB free"
    assert "refused" in script.sampler.too_large(10**7, 1, 70, 1e15)["gumbel-softmax"]


def test_speed_of_a_run_is_read_after_its_first_quarter(script):
    lines = [{"split": "train", "update": 20 * n, "seconds": 50 + 4.0 * n} for n in range(1, 9)]
    lines[0]["seconds"] = 0.0
    lines.insert(3, {"split": "validation", "update": 60, "seconds": 90.0})
    assert script.scaling.updates_per_second("\n".join(map(json.dumps, lines))) == 5


def test_published_updates_draw_as_many_arrivals_as_was_meant(script):
    update = script.train.updater("amortized", "eat", 50, "cpu", published=True)
    assert 30 < update.n_exp() < 80  # near 60 in a batch of 1000
    before = [value.detach().clone() for value in update.parameters]
    update()
    assert all((value - old).abs().max() < 1e-6 for value, old in zip(update.parameters, before, strict=True))
    assert any(value.grad.any() for value in update.parameters)


def test_a_suite_that_fails_leaves_the_others(script, tmp_path, monkeypatch, capsys):
    def module(name, run):
        found = types.ModuleType(f"benchmarks.{name}", f"What {name} measures.")
        found.run, found.figure = run, script.scaling.figure
        monkeypatch.setitem(sys.modules, found.__name__, found)

    def fails(setup):
        yield {"suite": "bad", "what": "x"}
        raise ValueError("out of luck")

    one = {"median": 1.0, "low": 1.0, "high": 1.0}
    module("bad", fails)
    module("good", lambda setup: iter([{"what": "x", "processes": 1, "over one process": one}]))
    monkeypatch.setattr(script.command, "SUITES", ("bad", "good"))
    monkeypatch.setattr(script.command, "speeds", lambda device: {})
    monkeypatch.setattr(sys, "argv", ["benchmark", "--output", str(tmp_path), "--rounds", "2"])
    with pytest.raises(SystemExit, match="failed: bad"):
        script.command.main()
    assert "out of luck" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"good-cpu.{end}" for end in ("json", "md", "png")]
    content = json.loads((tmp_path / "good-cpu.json").read_text())
    assert content["rounds"] == 2
    assert {"processor", "threads", "python", "numpy", "scikit-learn", "date", "load before"} <= set(content["machine"])


@pytest.mark.slow
def test_quick_suites_from_one_command(tmp_path):
    suites = ("sampler", "train", "sequence")
    command = [sys.executable, SCRIPT, "--quick", "--rounds", "1", "--threads", "1", "--output", tmp_path]
    out = subprocess.run([*command, "--suite", ",".join(suites)], capture_output=True, text=True, check=True).stdout
    for suite in suites:
        content = json.loads((tmp_path / f"{suite}-cpu.json").read_text())
        assert content["quick"]
        assert content["machine"]["threads"] == 1
        assert all(row["suite"] == suite for row in content["rows"])
        assert (tmp_path / f"{suite}-cpu.png").stat().st_size > 10_000
        assert content["rows"][-1]["what"] in out
        assert (tmp_path / f"{suite}-cpu.md").read_text().splitlines()[-1] in out
    rows = {row["what"]: row for row in json.loads((tmp_path / "sampler-cpu.json").read_text())["rows"]}
    first = rows["200 × 512, σ 1.5, τ 0.05, cubic"]
    assert first["published over ours"]["median"] > 3
    assert first["published MB"] > 20 * first["ours MB"]
