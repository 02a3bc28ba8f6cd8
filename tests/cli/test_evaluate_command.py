"""`itervae evaluate` as a user types it: with labels and without, and one sentence where something
does not fit."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

import itervae
from itervae import cli
from itervae.cli.work import evaluate as command
from itervae.config import parse_train
from itervae.data import DataSettings, load_source
from itervae.data.source import RowSource
from itervae.evaluation import compare_truth
from itervae.evaluation.codes import CODE_READOUTS
from itervae.evaluation.neighbours import nearest_neighbours
from itervae.evaluation.units import active_units
from itervae.training import LAST, write_checkpoint
from itervae.training.checkpoint import build

UNLABELLED = ("units", "sparsity", "reconstruction")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untrained runs of two families and a sparse-coding run on the same rows, and one on
    others."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(300, 16)))
    np.save(folder / "y.npy", rng.normal(size=(60, 16)))
    found = {}
    for name, rows, options in (
        ("poisson", "x", ["--inference", "amortized"]),
        ("gaussian", "x", ["--inference", "amortized", "--model", "gaussian-vae"]),
        ("coding", "x", ["--model", "sparse-coding", "--threshold", "0.5"]),
        ("other", "y", ["--inference", "amortized"]),
    ):
        data = ["--data", "array", "--data-path", str(folder / f"{rows}.npy"), "--latents", "6"]
        settings, _, _ = parse_train([*data, *options])
        model, engine = build(settings, (16,))
        (folder / name).mkdir()
        content = {
            "config": settings.flat(),
            "shape": (16,),
            "model": model.state_dict(),
            "engine": engine.state_dict(),
        }
        write_checkpoint(folder / name / LAST, content)
        found[name] = str(folder / name)
    return found


@pytest.fixture
def labelled(monkeypatch):
    """The data of the runs with labels, 240 rows, and a test set of 120 others."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (360,), generator=generator)
    x = torch.randn(360, 16, generator=generator)
    x[:, :4] += 3 * torch.nn.functional.one_hot(labels, 4)
    source = RowSource(
        "rows", (16,), x[:1], x[:240], 0, validation_labels=labels[:240], test=lambda: (x[240:], labels[240:])
    )
    monkeypatch.setattr(command, "load_stills", lambda *_, **__: source)
    return x, labels


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", *map(str, args)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    return error


def test_without_labels(runs, tmp_path, capsys):
    capsys.readouterr()
    report, picture = tmp_path / "e.json", tmp_path / "e.png"
    cli.main(["evaluate", runs["poisson"], runs["gaussian"], "--json", str(report), "--figure", str(picture)])
    printed = capsys.readouterr().out
    assert "--data array has no labels: knn, shattering, readout left out" in printed
    content = json.loads(report.read_text())
    assert (content["schema"], content["kind"], content["split"], content["num"]) == (2, "evaluation", "validation", 60)
    assert content["data"].startswith("array validation")
    assert "pixels" not in content
    assert {name: run["family"] for name, run in content["runs"].items()} == {
        "poisson": "poisson",
        "gaussian": "gaussian",
    }
    for name, run in content["runs"].items():
        assert name in printed
        assert set(run) == {"family", "inference", *UNLABELLED}
        assert run["inference"] == "amortized"
        assert run["units"]["latents"] == len(run["units"]["kl"]) == sum(run["units"]["counts"]) == 6
        assert f"{run['units']['active']}/6" in printed
        assert run["reconstruction"]["kl"] == pytest.approx(sum(run["units"]["kl"]), rel=1e-4)
    assert picture.stat().st_size > 10_000


def test_truth(tmp_path, capsys):
    data = ["--data", "synthetic", "--features", "8", "--datum-size", "6", "--active", "2", "--num-data", "200"]
    data += ["--withhold", "--latents", "8"]
    kinds = {"poisson": [], "coding": ["--model", "sparse-coding", "--threshold", "0.1"], "mlp": ["--decoder", "mlp"]}
    kinds["mlp"] += ["--inference", "amortized"]
    for name, options in kinds.items():
        settings, _, _ = parse_train([*data, *options])
        model, engine = build(settings, (6,))
        (tmp_path / name).mkdir()
        state = {"shape": (6,), "model": model.state_dict(), "engine": engine.state_dict()}
        write_checkpoint(tmp_path / name / LAST, {"config": settings.flat(), **state})
    paths, report = {name: str(tmp_path / name) for name in kinds}, tmp_path / "e.json"
    source = load_source(settings.data, 0)
    for split, x in (("validation", source.validation), ("test", source.load_test()[0])):
        line = ["evaluate", paths["poisson"], paths["coding"], "--truth", "--split", split, "--num", "30"]
        cli.main([*line, "--json", str(report)])
        assert "beside the true dictionary (30 data: synthetic" in capsys.readouterr().out
        content, truth = json.loads(report.read_text()), source.truth(split)
        for name in ("poisson", "coding"):
            assert set(content["runs"][name]) == {"family", "inference", "truth"}
            run = itervae.load(paths[name])
            codes = itervae.infer(run.model, run.engine, x[:30]).posterior.mean
            expected = asdict(compare_truth(run.model.dictionary, codes, truth.atoms, truth.codes[:30]))
            found = content["runs"][name]["truth"]
            for part in ("firings", "common", "rare"):
                assert found.pop(part) == pytest.approx(expected.pop(part))
            assert found == pytest.approx(expected)
    assert "has no dictionary of atoms of the size of a datum; leave out" in refused(capsys, paths["mlp"], "--truth")
    cli.main(["evaluate", paths["mlp"], "--num", "30"])
    assert "mlp has no dictionary of atoms of the size of a datum: truth left out" in capsys.readouterr().out


def test_with_labels(runs, labelled, tmp_path, capsys):
    x, labels = labelled
    capsys.readouterr()
    report, picture = tmp_path / "e.json", tmp_path / "e.png"
    cli.main(["evaluate", runs["poisson"], runs["coding"], "--json", str(report), "--figure", str(picture)])
    printed = capsys.readouterr().out
    assert "coding is a sparse code, a point estimate: units, residual, clamped, sample left out" in printed
    assert "240 data leave a pool of 120 to draw labels from: 200, 500, 1000, 2000 labels left out" in printed
    content = json.loads(report.read_text())
    poisson, coding = content["runs"]["poisson"], content["runs"]["coding"]
    for suite in ("knn", "shattering", "readout"):
        assert tuple(poisson[suite]) == CODE_READOUTS
        assert tuple(coding[suite]) == ("mean", "root")
    assert [point["labels"] for point in poisson["knn"]["mean"]] == [50, 100, 120]
    assert poisson["shattering"]["mean"]["splits"] == 3
    expected = nearest_neighbours(x[:240], labels[:240], seed=0)
    assert [point["accuracy"] for point in content["pixels"]["knn"]] == [score.accuracy for score in expected]
    assert content["pixels"]["readout"]["accuracy"] > 0.8  # the labels are in the data
    assert picture.stat().st_size > 20_000


def test_options_are_obeyed(runs, labelled, tmp_path, capsys):
    x, _ = labelled
    report = tmp_path / "e.json"

    def evaluate(*args):
        cli.main(["evaluate", runs["poisson"], "--json", str(report), *args])
        return json.loads(report.read_text())

    content = evaluate("--suite", "readout, reconstruction", "--readouts", "root,mean", "--split", "test")
    run = content["runs"]["poisson"]
    assert set(run) == {"family", "inference", "readout", "reconstruction"}
    assert list(run["readout"]) == ["root", "mean"]
    assert "pixels" not in content
    assert content["num"] == 120  # the test set
    assert run["reconstruction"]["variance"] == pytest.approx(x[240:].var(0, correction=0).sum().item(), rel=1e-5)
    optimal = evaluate("--suite", "reconstruction", "--inference", "optimal", "--num", "50")["runs"]["poisson"]
    own = evaluate("--suite", "reconstruction", "--num", "50")["runs"]["poisson"]["reconstruction"]
    steps = evaluate("--suite", "reconstruction", "--inference", "lca-unrolled:0", "--num", "50")["runs"]["poisson"]
    assert (optimal["inference"], steps["inference"]) == ("optimal", "lca-unrolled:0")
    assert optimal["reconstruction"]["certificate_max"] < 1e-4
    assert optimal["reconstruction"]["free_energy"] < own["free_energy"]
    # the certificate bounds the gap
    assert own["free_energy"] - optimal["reconstruction"]["free_energy"] < own["certificate_max"]
    assert steps["reconstruction"]["kl"] == pytest.approx(0, abs=1e-6)  # no step: the prior


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    report = tmp_path / "e.json"
    checkpoint = runs["poisson"] + "/checkpoint_last.pt"
    for given, names in (
        ((runs["poisson"], runs["poisson"]), {"poisson"}),
        ((runs["poisson"], checkpoint), {"poisson", "poisson/checkpoint_last.pt"}),
        ((runs["poisson"], runs["poisson"] + "/../poisson"), {runs["poisson"], runs["poisson"] + "/../poisson"}),
    ):
        cli.main(["evaluate", *given, "--suite", "sparsity", "--num", "10", "--json", str(report)])
        assert set(json.loads(report.read_text())["runs"]) == names


def test_errors(runs, tmp_path, capsys):
    one = runs["poisson"]
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(40, 9)))
    for args, message in (
        ((one, "--suite", "unit"), "--suite is 'unit'; did you mean units? expected one of units, sparsity"),
        ((one, "--suite", ","), "--suite was given no value"),
        ((one, "--readouts", "residuals"), "--readouts is 'residuals'; did you mean residual?"),
        ((one, "--suite", "knn,units"), "--suite knn needs labels, and --data array has none"),
        ((one, "--split", "test"), "--data array has no test set"),
        ((one, "--num", "1"), "--num is 1; expected at least 2"),
        (("--num", "9"), "no run was named"),
        ((one, runs["other"]), f"x.npy) and {runs['other']} on array (data_path"),
        ((one, "--data", "array", "--data-path", tmp_path / "wide.npy"), f"9 values per datum and {one} explains 16"),
        ((one, "--inference", "lca"), "'lca' is unknown"),
        ((one, "--inference", "optimal:many"), "asks for 'many' steps"),
        ((runs["gaussian"], "--inference", "fista-unrolled"), "fista-unrolled needs a model with"),
        ((runs["coding"], "--inference", "amortized"), "amortized"),
        ((runs["coding"], "--suite", "units"), "--suite is units, and coding is a sparse code"),
        ((one, "--figure", tmp_path / "e.eps"), "expected a name ending in .png or .pdf or .svg"),
        ((one, "--figure", tmp_path / "e.png", "--suite", "sparsity"), "none of them was asked for"),
        ((tmp_path / "none",), "there is no checkpoint"),
    ):
        error = refused(capsys, *args)
        assert message in error, (args, error)


def test_errors_that_need_labels(runs, labelled, capsys):
    assert "--readouts is residual sample" in refused(capsys, runs["coding"], "--readouts", "residual,sample,pixels")
    _, labels = labelled
    labels[:8] = torch.tensor([0, 1, 2, 0, 0, 1, 2, 3])
    assert "class 3 is in the second half of the 8 data" in refused(capsys, runs["poisson"], "--num", "8")
    labels[:8] = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    assert "there are 8 data; expected at least 10" in refused(capsys, runs["poisson"], "--num", "8")
    cli.main(["evaluate", runs["poisson"], "--num", "8", "--suite", "readout", "--readouts", "mean"])


def test_mnist(real_data, tmp_path):
    """Validation by default; the test set where it is asked for."""
    report = tmp_path / "e.json"
    options = ["--decoder", "mlp", "--latents", "10", "--data", "mnist", "--updates", "5", "--device", "cpu"]
    cli.main(["train", "--inference", "amortized", *options, "--run-dir", str(tmp_path / "run")])
    suites = ["--num", "400", "--suite", "units,knn,readout", "--readouts", "residual,pixels"]
    found = {}
    for split in ("validation", "test"):
        cli.main(["evaluate", str(tmp_path / "run"), *suites, "--split", split, "--json", str(report)])
        found[split] = json.loads(report.read_text())
    source = load_source(DataSettings(data="mnist"), 0)
    for split, (x, labels) in {
        "validation": (source.validation, source.validation_labels),
        "test": source.load_test(),
    }.items():
        expected = nearest_neighbours(x[:400], labels[:400])
        assert [point["accuracy"] for point in found[split]["pixels"]["knn"]] == [score.accuracy for score in expected]
        assert found[split]["data"].startswith(f"mnist {split}")
    units = found["test"]["runs"]["run"]["units"]
    assert units["active"] == active_units(torch.tensor(units["kl"])).active
