"""What a figure of `itervae figure` is: a dataclass of its options that draws."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from itervae.cli.command import FIGURE, Command, Output
from itervae.errors import InputError
from itervae.plotting import save

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class Figure(Command):
    """A figure. The first line of its docstring says what it shows; its fields are its options."""

    OUTPUTS: ClassVar[Mapping[str, Output]] = {"output": FIGURE}

    output: Path
    """File to write, .png, .pdf or .svg."""

    @abstractmethod
    def draw(self) -> "matplotlib.figure.Figure":
        """The figure."""

    def work(self) -> "matplotlib.figure.Figure":
        return self.draw()

    def files(self, found: Any) -> Mapping[str, Callable[[Path], object]]:
        return {"output": lambda path: save(found, path)}


@dataclass(kw_only=True)
class FigureOf(Figure):
    """A figure of files that other commands write."""

    EXPECTED: ClassVar[str]
    """What the files are, in words."""
    MOST: ClassVar[int | None] = None
    """How many there can be at most."""

    inputs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="INPUT ...")]
    """Reports or run folders to draw, as the text above says."""

    def reads(self) -> Sequence[Path]:
        return self.inputs

    def check(self) -> None:
        given = len(self.inputs)
        if not given:
            raise InputError(f"the figure was given no input; name {self.EXPECTED}")
        if self.MOST is not None and given > self.MOST:
            raise InputError(f"the figure was given {given} inputs; expected {self.MOST}: {self.EXPECTED}")
