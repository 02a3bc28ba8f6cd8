"""20 steps of the LCA on batches that fill the device, D = 256, K = 512, against what it could do
at best: in products alone (`limit by products`), in the bytes of its own kernels with the products
(`limit by kernels`), and where all steps were one kernel (`limit if fused`). Each limit is made of
the device's own speed in a large product and a large copy. The time is that of `infer`, with its
certificate. On a GPU also by TF32, which the caller turns on.

What a step does of a patch: its products are 4DK operations, or 2K² by the Gram matrix where K <
2D. Beside them it reads and writes rows of K numbers, of the state and of what is in between (the
reading and writing of a product hides behind its operations):

    fused      the state alone, once in and once out, in its shortest form, u:  2 rows
    kernels    `kernels/programs_triton.py`, a kernel a step and one before:     10 rows
    tensors    one operation at a time, counted while it runs, products too:    some 80 rows

and by the residual Φμ − x, without the Gram matrix, 4 rows of D numbers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.figures import Point, exactly, ratios_figure
from benchmarks.machine import Setup, achieved, free_memory
from benchmarks.problems import random_problem, real_problem, steps_in_tensors
from benchmarks.timing import alternate, ratio, spread
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from itervae.inference import LCAUnrolled, infer
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

H200 = {"flop/s": 67e12, "flop/s, TF32": 494e12, "bytes/s": 4.8e12}
"""Of its data sheet: what the goals were set by."""
STEPS, LATENTS, SIZE = 20, 512, 256
PROPOSED, SETTLED = (3, 2), (5, 5)
"""Rows of K numbers read and written by each kernel of the LCA: before the first step u, ∂E/∂μ and
the last step, for u and μ to try; in each step u, μ, the data gradient, the u tried and the
product, for u, μ, the data gradient, and u and μ to try next, or ∂E/∂μ and the step."""
BY_RESIDUAL = 4
"""Rows of D numbers: x and Φμ for Φμ − x, which is read again for its square."""
DRAWN, SMALL, LARGE = 1 << 14, 1 << 11, (1 << 17, 1 << 20)
"""Patches that differ; batches of a CPU in --quick, and of a GPU, the least and the most."""
ARRAYS, SHARE = 28, 0.75
"""Arrays (B, K) that `infer` holds at once, with those of its certificate in float64, and the share
of the free memory that they may take."""
PRECISIONS = {"FP32": ("highest", "flop/s"), "TF32": ("high", "flop/s, TF32")}


def operations(latents: int = LATENTS, size: int = SIZE, steps: int = STEPS) -> float:
    """Of the products, a patch."""
    return 2.0 * steps * latents * (latents if latents < 2 * size else 2 * size)


def moved(way: str, latents: int = LATENTS, size: int = SIZE, steps: int = STEPS) -> float:
    """Bytes beside the products, a patch, "fused" or by our "kernels"."""
    if way == "fused":
        return 4.0 * steps * 2 * latents
    beside = BY_RESIDUAL * size if latents >= 2 * size else 0
    return 4.0 * (sum(PROPOSED) * latents + steps * (sum(SETTLED) * latents + beside))


def limits(speeds: Mapping[str, float], product: str, **shape: int) -> dict[str, float]:
    """Patches/s at best: by the products, by the products and then the bytes of our kernels, and by
    the larger of the products and the bytes where steps are fused."""
    products = operations(**shape) / speeds[product]
    fused, kernels = (moved(way, **shape) / speeds["bytes/s"] for way in ("fused", "kernels"))
    return {
        "limit by products": 1 / products,
        "limit by kernels": 1 / (products + kernels),
        "limit if fused": 1 / max(products, fused),
    }


class _Counting(TorchDispatchMode):
    """Counts the bytes that operations read and write, where they are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            for value in tree_leaves((args, kwargs, found)):
                if isinstance(value, Tensor):
                    shape = zip(value.shape, value.stride(), strict=True)
                    own = [length for length, stride in shape if stride]
                    self.bytes += value.element_size() * int(torch.Size(own).numel())
        return found


def counted(call: Callable[[], object]) -> int:
    """Bytes that the tensor operations of a call read and write, with those of its products."""
    with _Counting() as counting:
        call()
    return counting.bytes


def in_tensors(model: GenerativeModel, x: Tensor) -> float:
    """Bytes that a step of the LCA in tensors moves, a patch: what a batch adds that is larger."""

    def of(batch: int) -> int:
        problem, engine = Problem(model, x[:batch], model.prior()), LCAUnrolled(STEPS)
        with torch.no_grad(), steps_in_tensors():
            state = engine.step(problem, engine.init(problem, None))
            return counted(lambda: engine.step(problem, state))

    return (of(128) - of(64)) / 64


@contextmanager
def _products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def filling(device: str, quick: bool) -> int:
    """The largest power of two patches within `LARGE` that leaves some memory free; fewer on a
    CPU."""
    if device == "cpu" or quick:
        return SMALL if quick else DRAWN
    batch = LARGE[1]
    while batch > LARGE[0] and 4.0 * ARRAYS * LATENTS * batch > SHARE * free_memory(device):
        batch //= 2
    return batch


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    batch = filling(setup.device, setup.quick)
    drawn = min(batch, DRAWN)
    model, x = real_problem(drawn) or random_problem(LATENTS, drawn)
    model, x = model.to(setup.device), x.to(setup.device)
    x = x.repeat(-(-batch // len(x)), 1)[:batch]
    rates, matrix = model.prior().rate.detach().expand(batch, -1).contiguous(), model.dictionary.detach()

    def products() -> None:
        for _ in range(STEPS):
            _ = (rates @ matrix.mT) @ matrix

    @torch.no_grad()
    def solve() -> Any:
        return infer(model, LCAUnrolled(STEPS), x)

    for name, (precision, product) in PRECISIONS.items():
        if product not in setup.speeds:
            continue
        with _products(precision):
            times = alternate({"infer": solve, "products": products}, setup.rounds, setup.device)
            gaps = solve().stats["certificate"]
        at_best = limits(setup.speeds, product)
        one_kernel = {**setup.speeds, "flop/s": setup.speeds[product]}
        own = Setup(setup.device, setup.rounds, setup.quick, one_kernel)
        yield {
            "suite": "roofline",
            "what": name,
            "batch": batch,
            "patches/s": spread([batch / seconds for seconds in times["infer"]]),
            **at_best,
            "KB a step by kernels": moved("kernels") / STEPS / 1e3,
            "KB a step in tensors": in_tensors(model, x) / 1e3,
            "share of limit by kernels": spread(
                [batch / seconds / at_best["limit by kernels"] for seconds in times["infer"]]
            ),
            "over its products": ratio(times, "infer", "products"),
            **achieved(times["infer"], batch * moved("kernels"), batch * operations(), own),
            "largest gap": gaps.max().item(),
            "median gap": gaps.median().item(),
            "rounds": len(times["infer"]),
        }


def figure(rows: list[dict[str, Any]]) -> "Figure":
    points = []
    for row in rows:
        middle = row["patches/s"]["median"]
        points += [Point(row["what"], name, exactly(row[name] / middle)) for name in row if name.startswith("limit")]
    return ratios_figure({"20 steps of the LCA, D = 256, K = 512": points}, "limit over what is reached")
