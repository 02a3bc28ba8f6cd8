"""`itervae engines`: the registry."""

from dataclasses import dataclass
from functools import partial

from rich.table import Table

from itervae.cli.command import Command
from itervae.cli.show import console
from itervae.inference import ENGINES


@dataclass
class Engines(Command):
    """List the inference engines and what each needs."""

    EXAMPLES = ("itervae engines",)

    def work(self) -> Table:
        table = Table(show_lines=False)
        for heading in ("engine", "what it does", "needs of the model", "steps"):
            table.add_column(heading)
        for name, engine in ENGINES.items():
            summary = " ".join((engine.__doc__ or "").partition("\n\n")[0].split()).rstrip(".:")
            needs = ", ".join(sorted(engine.requires)) or "any model"
            default = getattr(engine.Settings(), "steps", 0)
            table.add_row(name, summary, needs, str(default) if default else "one pass")
        return table

    def tell(self, found: Table) -> None:
        console().print(found)


run = partial(Engines.run, "itervae engines")
