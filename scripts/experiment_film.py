"""What displacement buys on film that moves: the part of `scripts/reproduce film` that looks at
movement.

A carryover that reaches the places around predicts what moves where it moves to; but also what
stays, where a code that is sparse takes now the one place and now the next. So what it gains
beyond the same map without a reach is shown beside how far things moved, and beside what it gains
where the past is of the same clip in another order, in which nothing has moved from there.
"""

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from experiment_folds import Fold, told
from experiment_tables import Results, markdown
from torch import Tensor
from torch.nn import functional

from itervae.config import parse_train
from itervae.data import TubeSource, load_source

BLOCK, FARTHEST = 16, 12
"""Side of the blocks that are looked for in the frame before, and how far, in pixels."""
STILL, REACH = 1.0, 5.0
"""Pixels a frame: half a place of 2 pixels, and 2 places and a half."""
DIAGONAL, DISPLACED, FULL = "diagonal", "diagonal-reach2", "full-reach2"


def movements(fold: Fold) -> dict[str, float]:
    """Of each sequence by how many pixels a frame things move, in the frames that are measured."""
    settings, _, _ = parse_train(shlex.split(next(iter(fold.runs.values())).train))
    # of a scale that does not matter
    source = load_source(replace(settings.data, val_sequences="all"), 0, fitted={"scale": 1.0})
    assert isinstance(source, TubeSource)
    words = shlex.split(fold.measure)
    count = int(words[words.index("--tubes") + 1]) if "--tubes" in words else 1
    return {name: movement(tubes) for name, tubes in source.whole_sequences(count).items()}


def movement(tubes: Tensor) -> float:
    """Length in pixels, mean over blocks and frames, of the displacement within `FARTHEST` pixels
    along each axis that makes a block most like the frame before, of sequences (n, T, H, W)."""
    before, after = tubes[:, :-1].flatten(0, 1), tubes[:, 1:].flatten(0, 1)
    height, width = after.shape[1:]
    around = functional.pad(before[:, None], (FARTHEST,) * 4, mode="replicate")[:, 0]
    steps = torch.arange(-FARTHEST, FARTHEST + 1)
    moves = sorted(torch.cartesian_prod(steps, steps).tolist(), key=lambda move: move[0] ** 2 + move[1] ** 2)
    least = length = torch.empty(0)
    for down, right in moves:  # of two as like as each other the shorter
        top, left = FARTHEST - down, FARTHEST - right
        error = (after - around[:, top : top + height, left : left + width]).square()
        error = functional.avg_pool2d(error[:, None], BLOCK)
        if not len(least):
            least, length = error, torch.zeros_like(error)
            continue
        better = error < least
        least, length = torch.where(better, error, least), length.masked_fill(better, (down**2 + right**2) ** 0.5)
    return length.mean().item()


def film_table(found: Results) -> str:
    """What displacement gains on each sequence, in the order of movement, and on those that move
    so far."""
    reports: dict[str, list[dict[str, Any]]] = {}  # sequence → its reports by carryover, one a seed
    moved: dict[str, float] = {}
    for fold in found.values():
        moved |= fold["movement"]
        for name, report in fold["report"]["sequences"].items():
            reports.setdefault(name, []).append(report)
    height, width = next(iter(found.values()))["report"]["shape"]
    pixels = height * width

    def each(what: Callable[[dict[str, Any]], float]) -> dict[str, float]:
        """A number of each sequence, mean over seeds."""
        return {name: sum(map(what, seeds)) / len(seeds) for name, seeds in reports.items()}

    def beyond(name: str, key: str) -> dict[str, float]:
        return each(lambda report: report[DIAGONAL][key] - report[name][key])

    own, shuffled = (beyond(DISPLACED, key) for key in ("optimum", "within_optimum"))
    columns = {
        "`diagonal`, gain": each(lambda report: report["none"]["optimum"] - report[DIAGONAL]["optimum"]),
        f"`{DISPLACED}` beyond it": own,
        "shuffled": shuffled,
        "difference": {name: own[name] - shuffled[name] for name in own},
        f"`{FULL}` beyond it": beyond(FULL, "optimum"),
        "shuffled, full": beyond(FULL, "within_optimum"),
    }
    none = each(lambda report: report["none"]["optimum"] / pixels)
    order = sorted(moved, key=lambda name: moved[name])
    rows = [
        [
            name,
            f"{moved[name]:.1f}",
            f"{none[name]:.4f}",
            *(f"{1e3 * of[name] / pixels:.2f}" for of in columns.values()),
        ]
        for name in order
    ]
    groups = {
        f"below {STILL:g}": [name for name in order if moved[name] < STILL],
        f"{STILL:g} to {REACH:g}": [name for name in order if STILL <= moved[name] <= REACH],
        f"above {REACH:g}": [name for name in order if moved[name] > REACH],
        "all": order,
    }
    summary = [
        [label, *(told([1e3 * of[name] / pixels for name in names], 2) for of in columns.values())]
        for label, names in groups.items()
        if names
    ]
    note = (
        f"By movement, which is how far blocks of {BLOCK}×{BLOCK} pixels are displaced, pixels a frame; `none` in nats "
        f"a pixel and frame, of {height}×{width} pixels, the rest in thousandths of a nat a pixel and frame, below "
        "`none` and, of what reaches the places around, below `diagonal` with the same past: the frame before, or "
        "frames of the same clip in another order."
    )
    by_sequence = markdown(["sequence", "movement", "`none`", *columns], rows)
    return "\n\n".join(
        [note, by_sequence, "Mean ± standard error over sequences:", markdown(["movement", *columns], summary)]
    )
