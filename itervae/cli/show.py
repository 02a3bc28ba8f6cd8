"""What commands print with: text that a user named is printed as it is."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def console(stderr: bool = False) -> Console:
    """A console that takes nothing for markup: paths and names may hold brackets and colons."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def progress() -> Progress:
    """Bars on the terminal, gone when all is done; none where there is no terminal. Descriptions
    are no markup."""
    out = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, transient=True, disable=not out.is_terminal)


def begin(what: str) -> None:
    """Say on the terminal what is begun that may take a while and has no bar yet."""
    out = console(stderr=True)
    if out.is_terminal:
        out.print(what, style="dim", soft_wrap=True)


def print_table(table: Table, spare: Sequence[str] = (), whole: str = "--json") -> None:
    """Print a table without broken numbers: columns that are to spare are left out where it is
    wider than the terminal, or than 80 columns in a file or a pipe, and that is said.

    Args:
        table: with columns that do not wrap.
        spare: headings of columns, the first to be left out first.
        whole: what has all of them.
    """
    out = console()
    left = []
    for heading in spare:
        if _width(out, table) <= out.width:
            break
        column = next((each for each in table.columns if each.header == heading), None)
        if column is not None:
            table.columns.remove(column)
            left.append(heading)
    out.width = max(out.width, _width(out, table))
    out.print(table)
    if left:
        out.print(f"left out to fit: {', '.join(left)}; {whole} has all", soft_wrap=True)


def _width(out: Console, table: Table) -> int:
    """The columns of the terminal that a table takes."""
    title, table.title = table.title, None
    taken = table.__rich_measure__(out, out.options.update(width=1000)).maximum
    table.title = title
    return taken
