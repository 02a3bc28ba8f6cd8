"""Rows of figures as a Markdown table, and the files of a suite."""

from pathlib import Path
from typing import Any

from itervae.files import write_bytes, write_json
from itervae.plotting import save

HIDDEN = ("suite", "part", "detail")
"""What the file has and the table leaves out. Rows of each `part` have a table of their own."""


def cell(value: object) -> str:
    """A number, or a median with its quartiles, with as many digits as a reader wants."""
    if isinstance(value, dict) and {"median", "low", "high"} == set(value):
        return f"{cell(value['median'])} ({cell(value['low'])} to {cell(value['high'])})"
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return "" if value is None else str(value)


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown, a table for each part of the rows."""
    parts = dict.fromkeys(row.get("part") for row in rows)
    return "\n\n".join(table([row for row in rows if row.get("part") == part]) for part in parts)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one column for each key in order of appearance, but for those that no row has a
    value of."""
    keys = dict.fromkeys(key for row in rows for key in row if key not in HIDDEN)
    names = [key for key in keys if any(row.get(key) is not None for row in rows)]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def heading(content: dict[str, Any]) -> str:
    """What the figures were measured on, in a line."""
    facts = content["machine"]
    peers = ", ".join(f"{name} {facts[name]}" for name in ("scikit-learn", "spams", "celer"))
    return (
        f"{facts['processor']}, {facts['threads']} threads, python {facts['python']}, torch {facts['torch']}, "
        f"numpy {facts['numpy']}, {peers}; {facts['date']}, load {facts['load before']:.1f} before and "
        f"{content['load after']:.1f} after; at most {content['rounds']} rounds, medians (quartiles)"
    )


def write(content: dict[str, Any], figure: Any, folder: Path) -> None:
    """SUITE-DEVICE.json, .md and .png in the folder."""
    stem = folder / f"{content['suite']}-{content['machine']['device']}"
    write_json(stem.with_suffix(".json"), content)
    text = f"# {content['suite']}\n\n{heading(content)}\n\n{content['about']}\n\n{tables(content['rows'])}\n"
    write_bytes(stem.with_suffix(".md"), text.encode())
    save(figure, stem.with_suffix(".png"))
