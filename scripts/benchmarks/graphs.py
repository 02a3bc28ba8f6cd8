"""20 steps of the LCA and of FISTA on batches that do not fill a GPU, as those of training: the
steps as a CUDA graph against the same launched one by one. First the answers are compared, of data
and of a dictionary that change from call to call; where they differ by more than rounding, or no
graph was made, the suite fails. On a CPU there are no graphs, and both sides are the same.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup
from benchmarks.problems import random_problem
from benchmarks.timing import alternate, ratio, spread

from itervae.inference import Engine, FISTAUnrolled, Inference, LCAUnrolled, infer
from itervae.kernels import graphs
from itervae.model import GenerativeModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGINES = {"lca-unrolled": LCAUnrolled, "fista-unrolled": FISTAUnrolled}
STEPS, LATENTS, BATCHES = 20, 512, (200, 1000, 4000)
ROUNDING = 1e-4
"""Difference of two free energies, over their size, that rounding of products in another order may
make in 20 steps."""


def one_by_one(call: Callable[[], Inference]) -> Inference:
    """The answer without a graph."""
    with patch.object(graphs, "fits", lambda like: False):
        return call()


@torch.no_grad()
def compared(model: GenerativeModel, engine: Engine, x: torch.Tensor) -> float:
    """The largest difference of a free energy, over its size, of three calls: the loop is recorded
    in the second, and the third is the graph's on what has changed since."""
    apart, answers = 0.0, ()
    for call in range(3):
        model.dictionary.mul_(1 - 0.05 * call)
        answer = partial(infer, model, engine, x + 0.1 * call)
        answers = answer(), one_by_one(answer)
        found, expected = (model.free_energy(x + 0.1 * call, one.posterior).total for one in answers)
        apart = max(apart, ((found - expected).abs() / (1 + expected.abs())).max().item())
    if x.is_cuda and not graphs.fits(answers[0].state.u):
        raise RuntimeError("no graph could be made; a warning above says why")
    return apart


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    for batch in BATCHES[:1] if setup.quick else BATCHES:
        for name, kind in ENGINES.items():
            model, x = random_problem(LATENTS, batch)
            model, x, engine = model.to(setup.device), x.to(setup.device), kind(STEPS)
            apart = compared(model, engine, x)
            if not apart <= ROUNDING:
                raise RuntimeError(f"{name}, batch {batch}: free energies of graph and loop differ by {apart:.2g}")
            answer = partial(infer, model, engine, x)
            times = alternate({"graph": answer, "loop": partial(one_by_one, answer)}, setup.rounds, setup.device)
            yield {
                "suite": "graphs",
                "what": name,
                "batch": batch,
                "graph ms": spread(times["graph"], 1e3),
                "loop ms": spread(times["loop"], 1e3),
                "graph over loop": ratio(times, "graph", "loop"),
                "apart": apart,
            }


def figure(rows: list[dict[str, Any]]) -> "Figure":
    points = [Point(f"batch {row['batch']}", row["what"], row["graph over loop"]) for row in rows]
    return ratios_figure({"20 steps, K = 512": points}, "time of the graph over the loop")
