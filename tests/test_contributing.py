"""What CONTRIBUTING.md shows works as it is printed."""

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
import torch

import itervae
from itervae import cli, data, model, sequence
from itervae.cli.figures import FIGURES
from itervae.cli.suites import SUITES
from itervae.data.source import RowSource, held_out
from itervae.registry import Listed
from itervae.sequence import CARRYOVERS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
REGISTRIES = {
    "MODELS": model.MODELS,
    "CARRYOVERS": CARRYOVERS,
    "SOURCES": data.SOURCES,
    "SUITES": SUITES,
    "FIGURES": FIGURES,
}
NAMES = {
    **{name: getattr(module, name) for module in (data, model, sequence) for name in module.__all__},
    "CodeSuite": cli.suites.CodeSuite,
    "Figure": cli.figures.Figure,
    "Listed": Listed,
    "RowSource": RowSource,
    "dataclass": dataclasses.dataclass,
    "held_out": held_out,
    "math": math,
    "matplotlib": matplotlib,
    "nn": torch.nn,
    "torch": torch,
    "__name__": "contributed",
}
"""What the printed diffs leave out: their imports."""


@pytest.mark.slow
def test_the_example_engine_passes_the_contract(tmp_path):
    """In 30 lines, listed as any other: the contract is that of
    `tests/inference/test_engines.py`."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in code.split("\n") if line.strip()]) <= 30
    (tmp_path / "relaxed.py").write_text(code, encoding="utf-8")
    (tmp_path / "listed.py").write_text(
        "def pytest_configure():\n"
        "    from itervae.inference import ENGINES\n"
        "    from itervae.registry import Listed\n"
        "    ENGINES['relaxed-lca'] = Listed('relaxed:RelaxedLCA')\n"
    )
    contract = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "listed", "-k", "relaxed-lca"]
    path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(
        [*contract, "tests/inference/test_engines.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert int(re.search(r"(\d+) passed", found.stdout)[1]) > 45


@pytest.fixture
def contributed(monkeypatch):
    """Registries with what the diffs add to them."""
    diffs = re.findall(r"```diff\n(.*?)```", TEXT, re.DOTALL)
    assert len(diffs) == len(REGISTRIES)
    for diff in diffs:
        file, registry, line = re.fullmatch(r"((?:\+.*\n)+) (\w+) .*\n\+    (.*),\n", diff).groups()
        assert file.count("\n") <= 10
        scope = dict(NAMES)
        exec(re.sub(r"^\+", "", file, flags=re.MULTILINE), scope)
        written = ModuleType("contributed")
        vars(written).update(scope)
        for place in re.findall(r"# (itervae/.*)\.py\n", file):
            if (name := place.replace("/", ".")) not in sys.modules:
                monkeypatch.setitem(sys.modules, name, written)
        name, _, value = line.partition(": ")
        monkeypatch.setitem(REGISTRIES[registry], eval(name), eval(value, scope))


@pytest.mark.usefixtures("contributed")
def test_every_other_extension_is_ten_lines_and_one(tmp_path):
    few = ["--latents", "4", "--updates", "2", "--batch-size", "8", "--device", "cpu", "--run-dir"]
    cli.main(["train", "--family", "wide", "--width", "3", "--patch-size", "6", *few, str(tmp_path / "wide")])
    prior = itervae.load(tmp_path / "wide").model.prior()
    torch.testing.assert_close(prior.variance, torch.full((4,), 2 * 3.0**2))  # of a Laplace law: 2 S²
    drift = ["--data", "drift", "--patch-size", "6", "--frames", "4", "--window", "2", "--carryover", "fading"]
    cli.main(["train", *drift, *few, str(tmp_path / "fading")])
    assert itervae.load(tmp_path / "fading").carryover.logit != 0
    cli.main(["train", "--data", "ramps", "--val-share", "0.25", *few, str(tmp_path / "ramps")])
    report = tmp_path / "report.json"
    cli.main(["evaluate", str(tmp_path / "ramps"), "--suite", "peak", "--json", str(report)])
    assert '"largest"' in report.read_text()
    cli.main(["figure", "bars", "--heights", "1", "3", "--output", str(tmp_path / "bars.png")])
    assert np.asarray(matplotlib.image.imread(tmp_path / "bars.png")).std() > 0
