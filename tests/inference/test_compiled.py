"""Compiled steps give what eager ones give, and where the compiler fails the steps go on without
it."""

import pytest
import torch
from problems import random_data, random_model

from itervae.inference import FISTAUnrolled, LCAUnrolled, compile_steps, infer
from itervae.inference.engines import descent


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LCAUnrolled, FISTAUnrolled])
def test_compiled_steps_differ_by_rounding(kind, unchecked, monkeypatch):
    monkeypatch.setattr(descent, "fusible", lambda value: False)
    model = random_model()
    with torch.no_grad():
        for size in (7, 12):
            x = random_data(model, size)
            expected = infer(model, kind(10), x).posterior.u
            found = infer(model, compile_steps(kind(10)), x).posterior.u
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_where_the_compiler_fails_the_steps_go_on_and_say_so(monkeypatch):
    model = random_model()
    x = random_data(model, 5)
    expected = infer(model, LCAUnrolled(4), x).posterior.u

    def broken(function, **options):
        def call(*args):
            raise RuntimeError("no compiler is found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    engine = compile_steps(LCAUnrolled(4))
    with pytest.warns(UserWarning, match="steps are not compiled, and go on slower: no compiler is found") as told:
        found = infer(model, engine, x).posterior.u
    assert len(told) == 1
    assert torch.equal(found, expected)
