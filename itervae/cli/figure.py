"""`itervae figure KIND`: figures from the reports that other commands write, each with options of
its own."""

from collections.abc import Sequence

from itervae.arguments import nearest
from itervae.cli.figures import FIGURES
from itervae.errors import InputError


def run(args: Sequence[str]) -> None:
    """Draw the figure that the first word names."""
    if args and args[0] in ("-h", "--help"):
        width = max(map(len, FIGURES))
        lines = "\n".join(f"  {name:{width}}  {_summary(kind.__doc__)}" for name, kind in FIGURES.items())
        print(f"usage: itervae figure KIND ...\n\n{lines}\n\nitervae figure KIND --help explains each.")
        return
    if not args or args[0].startswith("-"):
        raise InputError(f"no figure was named; expected one first, of {', '.join(FIGURES)}: see itervae figure --help")
    name, *rest = args
    if name not in FIGURES:
        hint = nearest(name, FIGURES)
        raise InputError(f"figure {name!r} is unknown; {hint}expected one of {', '.join(FIGURES)}")
    FIGURES[name].run(f"itervae figure {name}", rest)


def _summary(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].rstrip(".")
