"""What `itervae evaluate` shows of its report: two tables, and what of it reaches the figure."""

from typing import Any

import numpy as np
from rich import box
from rich.measure import Measurement
from rich.table import Table

from itervae.cli.show import console
from itervae.evaluation.codes import CODE_READOUTS, PIXELS
from itervae.evaluation.units import ACTIVE
from itervae.plotting import Evaluated, evaluation_figure


def print_tables(result: dict[str, Any]) -> None:
    """Tables of the codes, of their reconstructions, and of what was read out of them, all runs in each."""
    runs = result["runs"]
    data = f"({result['num']} data: {result['data']})"
    described = {name: [name, run["family"], run["inference"]] for name, run in runs.items()}
    titles = ("run", "family", "inference")
    codes = [(described[name], _of_code(run)) for name, run in runs.items()]
    _print(f"codes {data}", titles, codes)
    reconstructed = [(described[name], _of_reconstruction(run)) for name, run in runs.items()]
    _print(f"reconstruction and free energy, nats {data}", titles, reconstructed)
    scored = [([name, readout], _scores(run, readout)) for name, run in runs.items() for readout in CODE_READOUTS]
    pixels = {suite: {PIXELS: score} for suite, score in result.get(PIXELS, {}).items()}
    scored.append((["", PIXELS], _scores(pixels, PIXELS)))
    _print(f"accuracy of read-outs {data}", ("run", "read-out"), scored)
    if any("*" in text for _, row in scored for text in row.values()):
        print("* not converged: some classifiers were stopped after their largest number of iterations")


def _print(title: str, titles: tuple[str, ...], rows: list[tuple[list[str], dict[str, str]]]) -> None:
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
    out = console()
    # a narrower table would lose digits, in files and pipes above all
    wide = out.options.update(width=1000)
    out.width = max(out.width, Measurement.get(out, wide, table).maximum)
    out.print(table)


def _of_code(measured: dict[str, Any]) -> dict[str, str]:
    """heading → text, of units and sparsity."""
    cells: dict[str, str] = {}
    if units := measured.get("units"):
        cells["active"] = f"{units['active']}/{units['latents']}"
    if sparsity := measured.get("sparsity"):
        for kind in ("mean", "sample"):
            if (part := sparsity.get(kind)) is not None:
                cells[f"lifetime, {kind}"] = f"{part['lifetime']:.3f}"
                cells[f"population, {kind}"] = "" if part["population"] is None else f"{part['population']:.3f}"
        cells["zeros"] = f"{sparsity['share_zero']:.3f}"
        cells["activity"] = f"{sparsity['activity']:.2f}"
    return cells


def _of_reconstruction(measured: dict[str, Any]) -> dict[str, str]:
    cells: dict[str, str] = {}
    if reconstruction := measured.get("reconstruction"):
        for kind in ("mean", "sample"):
            if (part := reconstruction.get(kind)) is not None:
                cells[f"R² {kind}"] = "" if part["r2"] is None else f"{part['r2']:.3f}"
                cells[f"error {kind}"] = f"{part['error']:.2f} ± {part['error_se']:.2g}"
        cells["KL"] = f"{reconstruction['kl']:.2f}"
        cells["free energy"] = f"{reconstruction['free_energy']:.2f} ± {reconstruction['free_energy_se']:.2g}"
        if (certificate := reconstruction["certificate_max"]) is not None:
            cells["certificate"] = f"{certificate:.2g}"
    return cells


def _scores(measured: dict[str, Any], readout: str) -> dict[str, str]:
    """heading → text, of what was read out."""
    cells = {}
    for point in measured.get("knn", {}).get(readout, ()):
        cells[f"{point['labels']} labels"] = f"{point['accuracy']:.3f}"
    for suite in ("shattering", "readout"):
        if (score := measured.get(suite, {}).get(readout)) is not None:
            cells[suite] = f"{score['accuracy']:.3f}" + ("*" if score["not_converged"] else "")
    return cells


def draw(result: dict[str, Any], readouts: tuple[str, ...]) -> Any:
    """The figure of a report; neighbours of the first of `readouts` that a run has."""
    edges = [run["units"]["log10_edges"] for run in result["runs"].values() if "units" in run]
    pixels = {suite: {PIXELS: score} for suite, score in result.get(PIXELS, {}).items()}
    return evaluation_figure(
        {name: _drawn(run, readouts) for name, run in result["runs"].items()},
        edges[0] if edges else (),
        ACTIVE,
        (PIXELS, _drawn(pixels, (PIXELS,))) if pixels else None,
    )


def _drawn(measured: dict[str, Any], readouts: tuple[str, ...]) -> Evaluated:
    """What the figure shows of one run."""
    knn = measured.get("knn", {})
    first = next((readout for readout in readouts if readout in knn), "")
    points = knn.get(first)
    return Evaluated(
        counts=np.array(measured["units"]["counts"]) if "units" in measured else None,
        knn=None
        if points is None
        else (
            np.array([point["labels"] for point in points]),
            np.array([point["accuracy"] for point in points]),
            np.array([np.nan if point["sd"] is None else point["sd"] for point in points]),
        ),
        knn_readout=first,
        **{
            suite: {readout: score["accuracy"] for readout, score in measured.get(suite, {}).items()}
            for suite in ("shattering", "readout")
        },
    )
