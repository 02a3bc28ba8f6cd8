"""`itervae engines`: the registry."""

from dataclasses import dataclass

from rich.table import Table

from itervae.cli.show import console
from itervae.inference import ENGINES
from itervae.options import parse


@dataclass
class Engines:
    """List the inference engines and what each needs."""


def run(args: list[str]) -> None:
    parse(Engines, "itervae engines", args)
    table = Table(show_lines=False)
    for heading in ("engine", "what it does", "needs of the model", "steps"):
        table.add_column(heading)
    for name, engine in ENGINES.items():
        summary = (engine.__doc__ or "").strip().split("\n")[0].rstrip(".:")
        needs = ", ".join(sorted(engine.requires)) or "any model"
        default = getattr(engine.Settings(), "steps", 0)
        table.add_row(name, summary, needs, str(default) if default else "one pass")
    console().print(table)
