"""Compiled steps: what a step of an engine does beside its matrix products, fused by
torch.compile."""

import warnings

import torch

from itervae.inference.engine import Engine, State
from itervae.inference.problem import Problem


def compile_steps(engine: Engine) -> Engine:
    """The engine itself, whose steps torch.compile compiles at their first use: about a minute, and
    again for other kinds of input.

    Steps that are compiled code already (`engines/fused.py`) are left as they are. Answers differ
    by rounding. Where compiling fails, for want of a C++ compiler, say, a warning says so and the
    steps stay as they were. What pays is a large batch and many steps; `scripts/benchmark` has
    figures per step of the LCA.
    """
    eager = engine.step
    fast = torch.compile(eager, dynamic=True)

    def step(problem: Problem, state: State) -> State:
        nonlocal fast
        if fast is not eager and not engine.fuses(problem, state):
            try:
                return fast(problem, state)
            except RuntimeError as error:  # every error of the compiler is one
                first = str(error).strip().splitlines()[0]
                warnings.warn(f"steps are not compiled, and go on slower: {first}", stacklevel=2)
                fast = eager
        return eager(problem, state)

    engine.step = step  # pyright: ignore[reportAttributeAccessIssue]
    return engine
