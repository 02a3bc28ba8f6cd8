"""The figure `gap-steps`: gaps while engines work."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.cli.figures.base import FigureOf
from itervae.cli.figures.floor import floor
from itervae.cli.figures.reports import complete, merged, numbers, report
from itervae.errors import InputError
from itervae.plotting import Trace, gap_steps_figure

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class GapSteps(FigureOf):
    """The gap of engines against steps and time, from `itervae gap --trace --json`."""

    EXPECTED = "the JSON report of itervae gap --trace --json"

    def draw(self) -> "matplotlib.figure.Figure":
        found, certificates = {}, {}
        for path in self.inputs:
            content = report(path, "gap", "itervae gap --trace --json")
            found[path], certificates[path] = complete(path, lambda c=content, path=path: _traces(c, path))
        return gap_steps_figure(merged(found), *floor(certificates))


def _traces(content: dict[str, Any], path: Path) -> tuple[dict[str, Trace], float | None]:
    """The trace of every engine of a gap report that has one, and its largest certificate; None for
    an estimate."""
    engines = content["engines"]
    # a bare list is the trace of an older version
    without = [name for name, engine in engines.items() if not isinstance(engine.get("trace"), dict)]
    if len(without) == len(engines):
        raise InputError(f"{path} has no trace of its engines; make it again with itervae gap --trace --json")
    if without:  # such as optimal, which takes another number of steps for every datum
        print(f"{path} has no trace of {', '.join(without)}: left out")
    traces = {}
    for name, engine in engines.items():
        if name in without:
            continue
        trace = engine["trace"]
        columns = (numbers(trace[key]) for key in ("mean", "p10", "p90"))
        seconds = None if trace.get("seconds_per_1000") is None else numbers(trace["seconds_per_1000"])
        traces[name] = Trace(np.arange(len(trace["mean"])), *columns, seconds=seconds)
    optimal = content["optimal"]
    estimated = optimal.get("method") == "estimate"
    return traces, None if estimated else float(numbers([optimal["certificate_max"]])[0])
