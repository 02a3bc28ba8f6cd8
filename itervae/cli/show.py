"""What commands print with: text that a user named is printed as it is."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def console(stderr: bool = False) -> Console:
    """A console that takes nothing for markup: paths and names may hold brackets and colons."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def progress() -> Progress:
    """Bars on the terminal, gone when all is done; none where there is no terminal. Descriptions
    are no markup."""
    out = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
