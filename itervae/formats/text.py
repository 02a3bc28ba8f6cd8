"""Tables in .csv files: numbers between commas, one datum a line, with a line of names or without.

The first line is one of names where one of its fields is no number, which is said.
"""

import csv
import warnings
from pathlib import Path

import numpy as np

from itervae.errors import InputError
from itervae.formats.kinds import Format


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = next((row for row in csv.reader(stream) if row), [])
            second = next((row for row in csv.reader(stream) if row), [])
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error}); save it as such.") from error
    if not first:
        raise InputError(f"{path} is empty; expected lines of numbers between commas.")
    titles = not all(map(_is_number, filter(str.strip, first)))
    if titles:
        _check_columns(path, first, second)
    try:
        array = np.loadtxt(
            path, delimiter=",", skiprows=int(titles), ndmin=2, encoding="utf-8-sig", quotechar='"', comments=None
        )
    except ValueError as error:
        if not first[0].strip() and second and second[0].strip() == "0":  # names that are numbers, or none
            raise _index(path) from error
        _check_blanks(path, titles)
        raise InputError(f"{path} is no table of numbers ({error}); mend or remove it.") from error
    if not first[0].strip() and np.array_equal(array[:, 0], np.arange(len(array))):
        raise _index(path)
    how = (
        f"a first line of names ({', '.join(first[:3])}{', ...' * (len(first) > 3)})" if titles else "no line of names"
    )
    warnings.warn(f"{path} was taken for {array.shape[0]} rows of {array.shape[1]} columns, with {how}", stacklevel=2)
    return array


def _index(path: Path) -> InputError:
    """The error of a table with a column that numbers its rows."""
    return InputError(
        f"the first column of {path} has no name and numbers the rows from 0, as pandas writes its index; leave it out "
        "(to_csv(..., index=False)), or name it if these are data."
    )


def _check_columns(path: Path, titles: list[str], row: list[str]) -> None:
    """Refuse a column of text below a line of names, and names that no comma divides."""
    if not row:
        raise InputError(
            f"{path} has one line, {','.join(titles)[:40]!r}, which is no numbers; expected rows below it."
        )
    for title, value in zip(titles, row, strict=False):
        if value.strip() and not _is_number(value):
            if len(row) == 1 and any(mark in value for mark in ";\t"):
                raise InputError(f"{path} has no commas between its values ({value[:30]!r}); save it with commas.")
            raise InputError(
                f"column '{title}' of {path} holds {value[:30]!r}, which is no number; remove it, or save what it says "
                "as numbers; labels go into a file of their own (`labels`)."
            )


def _check_blanks(path: Path, titles: bool) -> None:
    """Refuse a table in which a value is missing, but for the title of a column."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = csv.reader(stream)
        rows = filter(None, lines)
        if titles:
            next(rows)
        for row in rows:
            for column, value in enumerate(row, start=1):
                if not value.strip():
                    raise InputError(
                        f"{path} has no value in line {lines.line_num}, column {column}; fill it in, or leave the line "
                        "or the column out."
                    )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_words(path: Path) -> np.ndarray:
    """The lines of a .csv file of one column, as text."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    if wide := next((row for row in rows if len(row) != 1), None):
        raise InputError(f"{path} has {len(wide)} columns, and labels are one; save them in a file of their own.")
    return np.array([row[0].strip() for row in rows])


CSV = Format(_read)
