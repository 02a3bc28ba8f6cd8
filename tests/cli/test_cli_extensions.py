"""A figure and a suite of a user's own: one file, and one line in a registry."""

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch

from itervae import cli
from itervae.cli.figures import FIGURES, Figure
from itervae.cli.suites import SUITES, CodeSuite

BARS = '''
"""The figure `bars`: numbers as bars."""

from dataclasses import dataclass

from matplotlib.figure import Figure as Drawing

from itervae.cli.figures import Figure


@dataclass(kw_only=True)
class Bars(Figure):
    """Numbers as bars."""

    heights: tuple[float, ...] = (1.0, 2.0)
    """Heights of the bars."""

    def draw(self):
        drawing = Drawing()
        drawing.subplots().bar(range(len(self.heights)), self.heights)
        return drawing
'''
PEAK = '''
"""The suite `peak`: the largest mean of all units, and which it is."""

import numpy as np

from itervae.cli.suites import CodeSuite
from itervae.plotting import Dots


class Peak(CodeSuite):
    """The largest mean of all units."""

    def measure(self, codes, x):
        return {"largest": codes.mean.max().item(), "num": len(x)}

    def cells(self, found):
        return {"peak": f"{found['largest']:.3f}"}

    def panel(self, runs, readouts, reference):
        return Dots({name: {"peak": found["largest"]} for name, found in runs.items()}, "peaks", "largest mean")
'''
CLASSES = '''
"""The suite `classes`: how many classes there are, and whether the pixels or a code were given."""

from itervae.cli.suites import LabelledSuite


class Classes(LabelledSuite):
    """The number of classes, and of features."""

    def score(self, features, labels, seed):
        return {"classes": len(labels.unique()), "features": features.shape[1]}

    def cells(self, found):
        return {"classes": f"{found['classes']} of {found['features']}"}
'''


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A class of a module that is written into a temporary folder."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(module, text, name):
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return getattr(importlib.import_module(module), name)

    return write


def test_a_figure(written, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(FIGURES, "bars", written("bars_figure", BARS, "Bars"))
    cli.main(["figure", "bars", "--heights", "1", "3", "2", "--output", str(tmp_path / "bars.png")])
    assert (tmp_path / "bars.png").stat().st_size > 1000
    assert capsys.readouterr().out == f"figure written to {tmp_path / 'bars.png'}\n"
    cli.main(["figure", "--help"])
    assert "bars              Numbers as bars\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["figure", "bars", "--help"])
    text = capsys.readouterr().out
    assert "Heights of the bars." in text
    assert "--log-time" not in text
    with pytest.raises(SystemExit):
        cli.main(["figure", "kl-residual", "--heights", "1", "--output", str(tmp_path / "k.png")])
    assert "--heights is no option of this command" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["figure", "bar", "--output", str(tmp_path / "k.png")])
    assert "did you mean bars?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 16)))
    data = ["--data", "array", "--data-path", str(folder / "x.npy"), "--latents", "6"]
    cli.main(["train", *data, "--run-dir", str(folder / "run"), "--updates", "2", "--device", "cpu"])
    return folder / "run"


def test_the_examples_of_the_docs(monkeypatch, tmp_path, capsys, run):
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    figure, suite = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {
        "dataclass": dataclass,
        "Figure": Figure,
        "CodeSuite": CodeSuite,
        "matplotlib": matplotlib,
        "__name__": "x",
    }
    exec(figure + suite, scope)
    monkeypatch.setitem(FIGURES, "bars", scope["Bars"])
    monkeypatch.setitem(SUITES, "peak", scope["Peak"]())
    cli.main(["figure", "bars", "--heights", "1", "3", "--output", str(tmp_path / "bars.png")])
    assert (tmp_path / "bars.png").stat().st_size > 1000
    cli.main(["evaluate", str(run), "--suite", "peak", "--json", str(tmp_path / "e.json")])
    peak = json.loads((tmp_path / "e.json").read_text())["runs"]["run"]["peak"]["largest"]
    assert f"{peak:.3f}" in capsys.readouterr().out


def test_a_suite(written, monkeypatch, tmp_path, capsys, run):
    monkeypatch.setitem(SUITES, "peak", written("peak_suite", PEAK, "Peak")())
    report, picture = tmp_path / "e.json", tmp_path / "e.png"
    cli.main(["evaluate", str(run), "--suite", "peak", "--num", "12", "--json", str(report), "--figure", str(picture)])
    measured = json.loads(report.read_text())["runs"]["run"]
    assert set(measured) == {"family", "inference", "peak"}
    assert measured["peak"]["num"] == 12
    out = capsys.readouterr().out
    assert f"{measured['peak']['largest']:.3f}" in out
    assert picture.stat().st_size > 5000
    cli.main(["evaluate", str(run), "--json", str(report)])  # by default it is among the others
    assert set(json.loads(report.read_text())["runs"]["run"]) >= {"units", "sparsity", "peak"}
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(run), "--suite", "peek"])
    assert "--suite is 'peek'; did you mean peak?" in capsys.readouterr().err


def test_a_suite_that_needs_labels(written, monkeypatch, tmp_path, capsys, run):
    monkeypatch.setitem(SUITES, "classes", written("classes_suite", CLASSES, "Classes")())
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(run), "--suite", "classes"])
    assert "--suite classes needs labels" in capsys.readouterr().err
    from itervae.cli.work import evaluate
    from itervae.data.source import RowSource

    x, labels = torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 4
    source = RowSource("rows", (16,), x[:1], x, 0, validation_labels=labels)
    monkeypatch.setattr(evaluate, "load_stills", lambda *_, **__: source)
    report = tmp_path / "e.json"
    cli.main(["evaluate", str(run), "--suite", "classes", "--readouts", "mean", "pixels", "--json", str(report)])
    content = json.loads(report.read_text())
    assert content["runs"]["run"]["classes"] == {"mean": {"classes": 4, "features": 6}}
    assert content["pixels"]["classes"] == {"classes": 4, "features": 16}
    out = capsys.readouterr().out
    assert "4 of 6" in out
    assert "4 of 16" in out
