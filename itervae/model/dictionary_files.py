"""What the file of a dictionary holds: a matrix, one atom a column, or the small atoms of a
convolutional dictionary; and what is said of either."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from itervae.arguments import check_shape, check_whole
from itervae.errors import InputError
from itervae.formats import array_names, check_file, read_array
from itervae.model.convolution import Convolution

READ = (
    "dictionary", "log_rate", "observation_variance", "beta", "shape", "bias", "threshold", "signed", "hard", "kind",
    "atoms", "stride",
)  # fmt: skip
"""Arrays of a file that are read; it may hold others."""
KIND = "convolution"
"""The text `kind` in a file of a convolutional dictionary; one of a matrix has none."""


def read_arrays(path: Path, key: str | None, stride: int | None) -> dict[str, np.ndarray]:
    """The arrays of a file by what they are: that called `key` is the dictionary or, where none is
    called so, the only one that is nothing else. Small atoms, of a file that says so or for a
    stride, are called `atoms`."""
    check_file(path, "dictionary file")
    names = array_names(path)
    if names is None:
        return {"dictionary" if stride is None else "atoms": read_array(path, key)}
    found = {name: read_array(path, name, text=name == "kind") for name in names if name in (*READ, key)}
    if path.suffix.lower() == ".mat":  # where numbers and vectors are matrices
        whole = ("dictionary", "atoms", key)
        found = {name: value if name in whole else value.squeeze() for name, value in found.items()}
    kind = found.pop("kind", None)
    if kind is not None and str(kind) != KIND:
        raise InputError(f"kind of {path} is {str(kind)!r}; expected {KIND}, or none for a matrix: export it again")
    small = kind is not None or stride is not None
    if key is not None and key not in found:
        raise InputError(f"{path} has no array '{key}'; it holds {', '.join(names)}: name one of them as the key")
    wanted = "atoms" if small else "dictionary"
    if kind is not None and "stride" not in found:
        raise InputError(f"{path} is of kind {KIND} and has no array stride; expected a whole number: export it again")
    if key is not None:
        found[wanted] = found[key]
    elif wanted not in found:
        rest = [name for name in names if name not in READ]
        if len(rest) != 1:
            shape = "(K, C, H, W)" if small else "(D, K)"
            raise InputError(
                f"{path} holds {', '.join(names) or 'nothing'}; expected an array named {wanted} {shape}, or one "
                "alone: name it with `dictionary_key`, in Python key"
            )
        found[wanted] = read_array(path, rest[0])
    if not small:
        for name in ("atoms", "stride"):
            found.pop(name, None)
    return found


def matrix(
    given: Mapping[str, Tensor], rows: bool, shape: tuple[int, ...] | None, path: Path
) -> tuple[Tensor, tuple[int, ...]]:
    """The dictionary (D, K), and the shape of an atom."""
    dictionary = given["dictionary"]
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise InputError(
            f"the dictionary of {path} has shape {tuple(dictionary.shape)}; expected (D, K), one atom a column"
            + ("; small atoms, which may lie anywhere, need a `stride`" if dictionary.ndim in (3, 4, 5) else "")
        )
    dictionary = dictionary.T if rows else dictionary
    size, latents = dictionary.shape
    shape = _shape(given, shape) or (size,)
    if math.prod(shape) != size:
        other = "columns" if rows else "rows"
        remedy = f": its atoms may lie in its {other}, atoms={other!r}" if math.prod(shape) == latents else ""
        raise InputError(f"shape of {path} is {shape}; expected one of {size} values, as its atoms have{remedy}")
    return dictionary, shape


def convolution(
    given: Mapping[str, Tensor], stride: int | None, shape: tuple[int, ...] | None, path: Path
) -> tuple[Convolution, tuple[int, ...]]:
    """The operator of small atoms, and the shape of a datum that it is for: that of an atom, unless
    something else is said."""
    atoms = given["atoms"]
    if atoms.ndim not in (3, 4, 5) or 0 in atoms.shape:
        raise InputError(
            f"the atoms of {path} have shape {tuple(atoms.shape)}; expected (K, C, H, W) or, of one or three "
            "dimensions, (K, C, T) or (K, C, T, H, W): put an axis of channels after the first"
        )
    if stride is None:
        value = number(given["stride"], "stride", path)
        stride = int(value) if value == int(value) else 0
    check_whole(f"stride of {path}", stride, 1)
    channels, *widths = atoms.shape[1:]
    if stride > min(widths):
        raise InputError(
            f"stride of {path} is {stride} and its atoms are {min(widths)} wide; expected at most that, so that they "
            "reach all values"
        )
    shape = _shape(given, shape) or ((channels, *widths) if channels > 1 else tuple(widths))
    depth, sides = (1, shape) if len(shape) == len(widths) else (shape[0], shape[1:])
    if len(sides) != len(widths) or depth != channels:
        expected = ", ".join([*([str(channels)] if channels > 1 else []), *("N" for _ in widths)])
        raise InputError(f"shape of {path} is {shape}; expected ({expected}), as its atoms have it")
    return Convolution(atoms, tuple(sides), stride), shape


def _shape(given: Mapping[str, Tensor], shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape that a file says, or that is given."""
    if "shape" in given:
        shape = tuple(given["shape"].flatten().int().tolist())
    return None if shape is None else check_shape(shape)


def number(value: Tensor, name: str, path: str | Path) -> float:
    """The one number that an array of a file holds."""
    if value.numel() != 1:
        raise InputError(f"{name} of {path} has shape {tuple(value.shape)}; expected one number")
    return value.item()


def is_set(given: Mapping[str, Tensor], name: str, path: str | Path) -> bool:
    """Whether a file says 1 for `name`; where it says nothing, no."""
    value = number(given[name], name, path) if name in given else 0
    if value not in (0, 1):
        raise InputError(f"{name} of {path} is {value:g}; expected 0 or 1")
    return value == 1
