"""What was decided for a set of pictures or clips, in one line each, however many there are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from itervae.data.pictures import Picture


@dataclass
class Tally:
    """How many pictures of a set, or frames of a clip, were read in a way that is to be said.

    Attributes:
        count: all of them.
        colour: those that have colour.
        transparent: those laid over white.
        shallow: those of 16 bits in colour, read with 8.
        deep: those of 16 bits in grey.
        peak: the largest value of these.
        animated, later: pictures of several frames, and their frames but the first.
    """

    count: int = 0
    colour: int = 0
    transparent: int = 0
    shallow: int = 0
    deep: int = 0
    peak: int = 0
    animated: int = 0
    later: int = 0

    def add(self, picture: Picture) -> None:
        self.count += 1
        self.colour += picture.values.ndim == 3
        self.transparent += picture.transparent
        self.shallow += picture.shallow
        self.deep += picture.peak > 0
        self.peak = max(self.peak, picture.peak)
        self.animated += picture.later > 0
        self.later += picture.later


def remarks(parts: Sequence[Tally], white: float | None, given: bool, what: str, in_colour: bool = False) -> list[str]:
    """The lines to say of a set.

    Args:
        parts: of the set, each one picture or clip, or many pictures.
        white: the white level of what has 16 bits, None where nothing has.
        given: whether it came from elsewhere, and not from this set.
        what: the parts are called, "pictures" or "clips".
        in_colour: whether colour is kept, in place of becoming grey.
    """
    said = []

    def say(field: str, sentence: str) -> None:
        numbers = [getattr(part, field) for part in parts]
        number = sum(numbers) if what == "pictures" else sum(map(bool, numbers))
        total = sum(part.count for part in parts) if what == "pictures" else len(parts)
        if number:
            said.append(f"{number} of {total} {what} {sentence}")

    if not in_colour:
        say("colour", "have colour, which becomes grey: the luma of Rec. 601")
    elif grey := sum(part.count - part.colour for part in parts):
        said.append(f"{grey} of {sum(part.count for part in parts)} {what} are grey, three equal channels in colour")
    say("transparent", "are transparent in part and were laid over white")
    say("shallow", "have colour of 16 bits, of which 8 are read; save them in grey to keep all")
    peak = max((part.peak for part in parts), default=0)
    if white is not None and peak:
        beyond = ", and what is brighter is cut off there" if peak > white else ""
        chosen = ", as given" if given else ""
        said.append(f"16-bit pictures whose largest value is {peak}: white is {white:g}{chosen}{beyond}")
    if later := sum(part.later for part in parts):
        number = sum(part.animated for part in parts)
        said.append(
            f"left out: {later} later frame{'s' * (later > 1)} of {number} animated picture{'s' * (number > 1)}, of "
            "which the first is read; `data=video` reads every frame of a .gif"
        )
    return said


def left_out(files: Iterable[Path], one: str, many: str) -> list[str]:
    """The line to say of files of a folder that are not read, if there are any, called by `one` of
    them or `many`."""
    files = list(files)
    if not files:
        return []
    suffixes = sorted({file.suffix.lower() or "no suffix" for file in files})
    listed = ", ".join(suffixes[:8]) + (", ..." if len(suffixes) > 8 else "")
    return [f"left out: {len(files)} {one if len(files) == 1 else many} ({listed})"]
