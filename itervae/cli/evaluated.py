"""What `itervae evaluate` shows of its report: tables, and what of it reaches the figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from itervae.cli.show import print_table
from itervae.cli.suites import SUITES
from itervae.evaluation.readouts import CODE_READOUTS, PIXELS
from itervae.plotting import evaluation_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = list[tuple[list[str], dict[str, str]]]
"""The rows of a table: names, and heading → text."""


def print_tables(result: dict[str, Any]) -> None:
    """A table for each title that suites have, all runs in it: those that need labels have a row a
    read-out."""
    data = f"({result['num']} data: {result['data']})"
    tables: dict[tuple[str, bool], list[str]] = {}
    for name, suite in SUITES.items():
        tables.setdefault((suite.table, suite.labelled), []).append(name)
    for (title, labelled), suites in tables.items():
        rows = _by_readout(result, suites) if labelled else _by_run(result, suites)
        _print(f"{title} {data}", ("run", "read-out") if labelled else ("run", "family", "inference"), rows)
        if any("*" in text for _, row in rows for text in row.values()):
            print("* not converged: some classifiers were stopped after their largest number of iterations")


def _by_run(result: dict[str, Any], suites: Sequence[str]) -> Rows:
    return [
        ([name, run["family"], run["inference"]], _cells({suite: run[suite] for suite in suites if suite in run}))
        for name, run in result["runs"].items()
    ]


def _by_readout(result: dict[str, Any], suites: Sequence[str]) -> Rows:
    scores = {
        (name, readout): {suite: run[suite][readout] for suite in suites if readout in run.get(suite, {})}
        for name, run in result["runs"].items()
        for readout in CODE_READOUTS
    }
    pixels = {("", PIXELS): {suite: found for suite, found in result.get(PIXELS, {}).items() if suite in suites}}
    return [([*names], _cells(found)) for names, found in (scores | pixels).items()]


def _cells(found: dict[str, Any]) -> dict[str, str]:
    """Heading → text, of what was found by some suites."""
    return {heading: text for name, values in found.items() for heading, text in SUITES[name].cells(values).items()}


def _print(title: str, titles: tuple[str, ...], rows: Rows) -> None:
    """A table of rows, each with its names and heading → text; nothing where all rows are empty."""
    headings = list(dict.fromkeys(heading for _, row in rows for heading in row))
    if not headings:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in titles:
        table.add_column(heading, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    above = ""
    for names, row in rows:
        if not row:
            continue
        if len(rows) > len({names[0] for names, _ in rows}) and above and names[0] != above:
            table.add_section()
        table.add_row(
            "" if names[0] == above else names[0], *names[1:], *(row.get(heading, "") for heading in headings)
        )
        above = names[0]
    print_table(table, tuple(reversed(headings[2:])))


def draw(result: dict[str, Any], readouts: Sequence[str]) -> "Figure":
    """The figure of a report; of neighbours, the first of `readouts` that a run has."""
    panels = []
    for name, suite in SUITES.items():
        found = {run: measured[name] for run, measured in result["runs"].items() if measured.get(name)}
        reference = result.get(PIXELS, {}).get(name)
        if suite.drawn and (found or reference):
            panels.append(suite.panel(found, readouts, reference))
    drawn = [panel for panel in panels if panel is not None]
    return evaluation_figure([*result["runs"]], drawn, PIXELS if PIXELS in result else None)
