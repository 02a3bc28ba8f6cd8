"""Goals of speed on one H200, and what the results of scripts/gpu say of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Rows = list[dict[str, Any]]


class Goal(NamedTuple):
    """A number that is to be at least, or at most, so large; `read` finds it in the rows of the
    part, or None."""

    name: str
    part: str
    goal: float
    at_least: bool
    read: Callable[[Rows], float | None]


def _of(what: str, column: str) -> Callable[[Rows], float | None]:
    def read(rows: Rows) -> float | None:
        found = next((row[column] for row in rows if row["what"] == what), None)
        return found["median"] if isinstance(found, dict) else found

    return read


def _worst(column: str, indicator: str | None = None) -> Callable[[Rows], float | None]:
    def read(rows: Rows) -> float | None:
        own = [row for row in rows if indicator in (None, row.get("detail", {}).get("cell", {}).get("indicator"))]
        return max((row[column]["median"] for row in own if isinstance(row.get(column), dict)), default=None)

    return read


GOALS = (
    Goal("patches/s, FP32, 20 LCA steps", "roofline", 3.2e6, True, _of("FP32", "patches/s")),
    Goal("patches/s, TF32, 20 LCA steps", "roofline", 15e6, True, _of("TF32", "patches/s")),
    Goal("largest gap, FP32, nats", "roofline", 1e-3, False, _of("FP32", "largest gap")),
    Goal("largest gap, TF32, nats", "roofline", 1e-3, False, _of("TF32", "largest gap")),
    Goal("a training update over its products", "train", 1.5, False, _worst("over its products")),
    Goal("the sampler over torch.poisson, cubic", "draws", 1.5, False, _worst("ours over floor", "cubic")),
)


def goals(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each goal: what is asked and, where it was measured, what was achieved, over the
    goal, and on which device."""
    rows = []
    for goal in GOALS:
        part = results.get(goal.part, {})
        achieved = goal.read(part.get("rows", [])) if part.get("passed") else None
        row: dict[str, Any] = {"goal": goal.name, "asked": f"{'≥' if goal.at_least else '≤'} {goal.goal:g}"}
        if achieved is not None:
            reached = achieved >= goal.goal if goal.at_least else achieved <= goal.goal
            row |= {"achieved": achieved, "achieved over asked": achieved / goal.goal}
            device = part["machine"]["device"]
            row |= {"reached": reached, "where": f"measured on {device}" + ("" if reached else ", not reached")}
        rows.append(row)
    return rows
