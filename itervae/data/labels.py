"""The classes of a user's own data, one a datum."""

import warnings
from pathlib import Path

import numpy as np

from itervae.errors import InputError
from itervae.formats import named, read_array, read_words


def read_labels(path: Path, key: str | None, count: int) -> np.ndarray:
    """Labels (N,) of a file: whole numbers, or words, of which each is a class.

    Args:
        path: of any format that `read_array` reads; of a .csv file one column. Words are read of
            .npy, .npz and .csv.
        key: name of the array.
        count: N, the data that they belong to.

    Raises:
        InputError: not N of them, or numbers that are not whole.
    """
    path = path.expanduser()
    where = f"the labels of {named(path, key)}"
    if path.suffix.lower() == ".csv" and path.is_file():
        found = _of_table(path, count)
    else:
        found = read_array(path, key, text=True)
    if found.ndim == 2 and 1 in found.shape:  # as MATLAB keeps them
        found = found.reshape(-1)
    if found.shape != (count,):
        raise InputError(f"{where} have shape {found.shape}, but there are {count} data; give ({count},), one a datum.")
    if found.dtype.kind == "f" and (found != np.floor(found)).any():  # NaN too
        wrong = found[found != np.floor(found)][0]
        raise InputError(f"{where} hold {wrong:g}, which is no whole number; give classes as whole numbers or words.")
    return found


def _of_table(path: Path, count: int) -> np.ndarray:
    """A column of whole numbers or words; a line more than there are data is a name."""
    found = read_words(path)
    if len(found) == count + 1:
        warnings.warn(f"{path} was taken for {count} labels below the name '{found[0]}'", stacklevel=2)
        found = found[1:]
    try:
        return found.astype(float)
    except ValueError:
        return found
