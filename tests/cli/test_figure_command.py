"""`itervae figure`: what of the reports reaches the figures, and one sentence where something does
not fit."""

import json

import numpy as np
import pytest

from itervae import cli
from itervae.cli import figures
from itervae.cli.gap import ESTIMATE_FLOOR


def trace(*mean):
    return {
        "mean": list(mean),
        "p10": [value and value / 2 for value in mean],
        "p90": [value and value * 2 for value in mean],
        "seconds_per_1000": [0.01 * (index + 1) for index in range(len(mean))],
    }


def gap_report(**engines):
    engines = engines or {"lca": trace(3.0, 1.0, 0.1), "amortized": trace(9.0)}
    named = {name: {"steps": len(found["mean"]) - 1, "trace": found} for name, found in engines.items()}
    return {"schema": 1, "data": "test", "num": 9, "optimal": {"certificate_max": 1e-6}, "engines": named}


def rate_report():
    point = {"family": "LCA", "kind": "mean", "lifetime_sparsity": 0.5, "error_se": 1.0}
    points = [
        {**point, "curve": "LCA", "setting": "β 2", "order": 2.0, "share_zero": 0.9, "error": 30.0},
        {**point, "curve": "LCA", "setting": "β 1", "order": 1.0, "share_zero": 0.8, "error": 20.0},
        {**point, "curve": "lasso", "setting": "θ 1", "order": 0.0, "share_zero": None, "error": 10.0},
    ]
    return {"schema": 1, "kind": "rate-distortion", "data": "test", "num": 9, "variance": 240.0, "points": points}


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def run_folder(path, *energies, more=""):
    """A run folder with a validation of each of these free energies, 10 seconds apart, between
    lines of training."""
    path.mkdir(parents=True)
    records = []
    for index, energy in enumerate(energies):
        records.append({"split": "train", "update": index, "seconds": 10.0 * index + 1, "free_energy": 1e3})
        records.append({"split": "validation", "update": index, "seconds": 10.0 * index, "free_energy": energy})
    (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + more)
    return path


def draw(*args):
    cli.main(["figure", *(str(arg) for arg in args)])


def refused(capsys, *args) -> str:
    """The one sentence that the command says before it ends with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        draw(*args)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("itervae: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture
def passed(monkeypatch):
    """What the figures were given, by the name of their function."""
    seen = {}
    for module, name in (
        (figures.gap_distribution, "gap_figure"),
        (figures.gap_steps, "gap_steps_figure"),
        (figures.rate_distortion, "rate_distortion_figure"),
        (figures.relaxed_poisson, "relaxed_poisson_figure"),
        (figures.training, "runs_figure"),
    ):
        function = getattr(module, name)

        def spy(*args, function=function):
            seen[function.__name__] = args
            return function(*args)

        monkeypatch.setattr(module, name, spy)
    return seen


def test_gap_steps(tmp_path, capsys, passed):
    report = written(tmp_path / "gap.json", gap_report(lca=trace(3.0, None, 0.1), amortized=trace(9.0)))
    draw("gap-steps", report, "--output", tmp_path / "steps.png")
    traces, floor, certified = passed["gap_steps_figure"]
    assert (floor, certified) == (1e-6, True)
    assert list(traces) == ["lca", "amortized"]
    np.testing.assert_array_equal(traces["lca"].steps, [0, 1, 2])
    np.testing.assert_array_equal(traces["lca"].mean, [3.0, np.nan, 0.1])
    np.testing.assert_array_equal(traces["lca"].low, [1.5, np.nan, 0.05])
    np.testing.assert_array_equal(traces["lca"].high, [6.0, np.nan, 0.2])
    np.testing.assert_allclose(traces["lca"].seconds, [0.01, 0.02, 0.03])
    np.testing.assert_array_equal(traces["amortized"].steps, [0])
    assert (tmp_path / "steps.png").stat().st_size > 10_000
    assert "steps.png" in capsys.readouterr().out


def test_names_that_repeat_get_the_stem_of_their_file(tmp_path, passed):
    one = written(tmp_path / "one.json", gap_report())
    other = gap_report(lca=trace(1.0, 0.5), ista=trace(1.0, 0.7))
    other["optimal"]["certificate_max"] = 4e-6
    two = written(tmp_path / "two.json", other)
    draw("gap-steps", one, two, "--output", tmp_path / "steps.png")
    traces, floor, _ = passed["gap_steps_figure"]
    assert set(traces) == {"one lca", "amortized", "two lca", "ista"}
    assert floor == 4e-6  # the coarser of both
    (tmp_path / "folder").mkdir()
    same = written(tmp_path / "folder" / "one.json", gap_report())
    draw("gap-steps", one, same, "--output", tmp_path / "steps.png")
    assert len(passed["gap_steps_figure"][0]) == 4  # where stems are the same too, nothing is lost


def test_an_engine_without_a_trace_is_left_out_and_said(tmp_path, capsys, passed):
    report = gap_report()
    report["engines"]["optimal"] = {"steps": 100}
    draw("gap-steps", written(tmp_path / "gap.json", report), "--output", tmp_path / "steps.png")
    assert list(passed["gap_steps_figure"][0]) == ["lca", "amortized"]
    assert "no trace of optimal: left out" in capsys.readouterr().out


def test_an_optimum_that_is_an_estimate_has_no_certificate(tmp_path, passed):
    report = {**gap_report(), "optimal": {"method": "estimate", "free_energy_mean": 3.0}}
    draw("gap-steps", written(tmp_path / "gap.json", report), "--output", tmp_path / "steps.png")
    assert passed["gap_steps_figure"][1:] == (ESTIMATE_FLOOR, False)
    np.savez(tmp_path / "gap.npz", **{"free_energy_optimal": np.ones(3), "free_energy lca": np.arange(2.0, 5.0)})
    draw("gap-distribution", tmp_path / "gap.npz", "--output", tmp_path / "gap.png")
    assert passed["gap_figure"][1] == ESTIMATE_FLOOR


def test_gap_distribution(tmp_path, passed):
    arrays = {
        "free_energy_optimal": np.array([10.0, 20.0]),
        "certificate": np.array([1e-8, 3e-7]),
        "free_energy lca:20": np.array([10.5, 22.0]),
        "marginal": np.zeros(2),
    }
    np.savez(tmp_path / "gap.npz", **arrays)
    draw("gap-distribution", tmp_path / "gap.npz", "--output", tmp_path / "gap.png")
    gaps, floor, certified = passed["gap_figure"]
    assert list(gaps) == ["lca:20"]
    np.testing.assert_allclose(gaps["lca:20"], [0.5, 2.0])
    assert floor == 3e-7
    assert certified
    assert (tmp_path / "gap.png").stat().st_size > 10_000


def test_rate_distortion(tmp_path, passed):
    draw("rate-distortion", written(tmp_path / "rd.json", rate_report()), "--output", tmp_path / "rd.png")
    curves, variance = passed["rate_distortion_figure"]
    assert variance == 240.0
    assert list(curves) == ["LCA", "lasso"]
    assert curves["LCA"].setting == ["β 1", "β 2"]  # by their order
    np.testing.assert_array_equal(curves["LCA"].error, [20.0, 30.0])
    np.testing.assert_array_equal(curves["LCA"].share_zero, [0.8, 0.9])
    assert np.isnan(curves["lasso"].share_zero).all()
    assert (tmp_path / "rd.png").stat().st_size > 10_000


def test_training(tmp_path, passed):
    one = run_folder(tmp_path / "beta-0.5", 200.0, None, 150.0, more='{"split": "validation", "upd')
    two = run_folder(tmp_path / "lca", 180.0, 140.0)
    draw("training", one, two, "--output", tmp_path / "runs.png")
    runs, log_time = passed["runs_figure"]
    assert not log_time
    assert list(runs) == ["beta-0.5", "lca"]
    np.testing.assert_array_equal(runs["beta-0.5"][0], [0, 10, 20])
    np.testing.assert_array_equal(runs["beta-0.5"][1], [200, np.nan, 150])
    np.testing.assert_array_equal(runs["lca"], [[0, 10], [180, 140]])
    assert (tmp_path / "runs.png").stat().st_size > 10_000
    same = run_folder(tmp_path / "again" / "lca", 170.0, 130.0)
    draw("training", two, same, "--log-time", "--output", tmp_path / "runs.png")
    runs, log_time = passed["runs_figure"]
    assert log_time
    assert list(runs) == [str(two), str(same)]


def test_figures_without_input(tmp_path, passed):
    draw("kl-residual", "--output", tmp_path / "kl.png")
    assert (tmp_path / "kl.png").stat().st_size > 10_000
    for name in ("a", "b"):
        settings = ("--rate", 2, "--temperatures", 0.1, 0.5, "--num", 3000, "--seed", 1)
        draw("relaxed-poisson", "--output", tmp_path / f"{name}.png", *settings)
        samples, rate = passed["relaxed_poisson_figure"]
        assert rate == 2
        assert list(samples) == [0.1, 0.5]
        for draws in samples.values():
            assert draws.shape == (3000,)
            assert abs(draws.mean() - 2) < 5 * (2 / 3000) ** 0.5
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_bad_input_is_one_sentence(tmp_path, capsys):
    output = ("--output", tmp_path / "x.png")
    good = written(tmp_path / "good.json", gap_report())
    rates = written(tmp_path / "rates.json", rate_report())
    (tmp_path / "no.json").write_text("{")
    written(tmp_path / "list.json", [1, 2])
    written(tmp_path / "schema.json", {**gap_report(), "schema": 7})
    written(tmp_path / "untraced.json", {**gap_report(), "engines": {"lca": {"steps": 20}}})
    written(tmp_path / "means.json", {**gap_report(), "engines": {"lca": {"steps": 1, "trace": [3.0, 1.0]}}})
    written(tmp_path / "half.json", {**gap_report(), "engines": {"lca": {"trace": {"mean": [1.0]}}}})
    written(tmp_path / "words.json", {**gap_report(), "engines": {"lca": {"trace": trace(1.0) | {"mean": ["x"]}}}})
    written(tmp_path / "unknown.json", {**gap_report(), "optimal": {"certificate_max": None}})
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    run_folder(tmp_path / "new")
    run_folder(tmp_path / "words", 1.0, "x")
    (run_folder(tmp_path / "torn") / "metrics.jsonl").write_text("{\n")
    (run_folder(tmp_path / "bare") / "metrics.jsonl").write_text('{"update": 3}\n')
    for args, message in (
        (("training", *output), "was given no input; name run folders of itervae train"),
        (("training", tmp_path / "none", *output), "no metrics.jsonl in"),
        (("training", tmp_path / "new", *output), "has no validation yet"),
        (("training", tmp_path / "words", *output), "metrics.jsonl is not whole"),
        (("training", tmp_path / "torn", *output), "torn/metrics.jsonl"),
        (("training", tmp_path / "bare", *output), "bare/metrics.jsonl"),
        (("gap-steps", good, *output, "--log-time"), "--log-time is no option of this command"),
        (("gap-step", good, *output), "'gap-step' is unknown; did you mean gap-steps? expected one of gap-steps, gap-"),
        (("gap-steps", *output), "was given no input"),
        (("gap-steps", tmp_path / "none.json", *output), "none.json; write it with itervae gap --trace --json"),
        (("gap-steps", tmp_path / "no.json", *output), "no.json cannot be read as JSON"),
        (("gap-steps", tmp_path / "list.json", *output), "is no gap report"),
        (("gap-steps", rates, *output), "rates.json is no gap report"),
        (("gap-steps", tmp_path / "schema.json", *output), "of schema 7; expected 1"),
        (("gap-steps", tmp_path / "untraced.json", *output), "no trace of its engines; make it again"),
        (("gap-steps", tmp_path / "means.json", *output), "no trace of its engines; make it again"),
        (("gap-steps", tmp_path / "half.json", *output), "half.json is not whole (no 'p10')"),
        (("gap-steps", tmp_path / "words.json", *output), "words.json is not whole"),
        (("gap-steps", tmp_path / "unknown.json", *output), "unknown.json is not finite"),
        (("gap-steps", good, "--output", tmp_path / "x.jpg"), "x.jpg; expected a name ending in .png or .pdf or .svg"),
        (("gap-steps", good, *output, "--seed", 3), "--seed is no option of this command"),
        (("gap-distribution", tmp_path / "none.npz", *output), "no file at"),
        (
            ("gap-distribution", good, *output),
            "good.json cannot be read as .npz; write it again with itervae gap --save",
        ),
        (("gap-distribution", tmp_path / "array.npy", *output), "array.npy cannot be read as .npz"),
        (("gap-distribution", tmp_path / "other.npz", *output), "has no array free_energy_optimal"),
        (("rate-distortion", good, *output), "good.json is no rate-distortion report"),
        (("rate-distortion", rates, rates, *output), "was given 2 inputs; expected 1"),
        (("kl-residual", good, *output), "which takes no input"),
        (("relaxed-poisson", good, *output), "which takes no input"),
        (("relaxed-poisson", *output, "--rate", 0), "--rate is 0"),
        (("relaxed-poisson", *output, "--rate", 30000), "--rate is 30000"),
        (("relaxed-poisson", *output, "--num", 0), "--num is 0"),
        (("relaxed-poisson", *output, "--temperatures", 0.1, 0), "--temperatures has 0.0"),
    ):
        assert message in refused(capsys, *args), args
    assert not (tmp_path / "x.png").exists()
