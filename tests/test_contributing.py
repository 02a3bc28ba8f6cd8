"""The engine of CONTRIBUTING.md works as printed."""

import re
from pathlib import Path

import torch
from problems import random_data, random_model

from itervae.inference import infer


def test_the_example_engine_descends():
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = {"__name__": "example"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), scope)
    model = random_model()
    x = random_data(model, 4)
    engine = scope["PlainDescent"](steps=30)
    trace = infer(model, engine, x, record=("free_energy",)).trace["free_energy"]
    assert trace.shape == (31, 4)
    assert (trace[-1] < trace[0]).all()
    assert torch.isfinite(trace).all()
