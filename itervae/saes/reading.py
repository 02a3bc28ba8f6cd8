"""The files of an SAE folder, whoever wrote them: arrays by name and a configuration; damage is
told in one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itervae.arrays import as_float32
from itervae.errors import InputError
from itervae.formats import array_names, read_array

AGAIN = "make or copy it again"


class Weights(Mapping[str, Tensor]):
    """The arrays of a file by name, in float32.

    Args:
        path: of the file.
        arrays: name → array.
    """

    def __init__(self, path: Path, arrays: Mapping[str, Any]) -> None:
        self.path, self._arrays = path, arrays

    def __getitem__(self, name: str) -> Tensor:
        return as_float32(self._arrays[name], f"array {name} of {self.path}")

    def __iter__(self) -> Any:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def take(self, names: str, *shape: int) -> Tensor:
        """The array of one of some names, "W_dec or decoder.weight"; of a shape, where -1 stands
        for any length.

        Raises:
            InputError: there is none, or it has another shape.
        """
        name = next((name for name in names.split(" or ") if name in self), None)
        if name is None:
            raise InputError(
                f"{self.path} has no array {names}; expected one, and it holds {', '.join(self) or 'nothing'}: {AGAIN}"
            )
        value = self[name]
        if value.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, value.shape, strict=True)):
            sizes = ", ".join("any" if n == -1 else str(n) for n in shape) + "," * (len(shape) == 1)
            raise InputError(f"{name} of {self.path} has shape {tuple(value.shape)}; expected ({sizes}): {AGAIN}")
        return value


class Config(dict[str, Any]):
    """A configuration, and the file that it is in."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def whole(self, name: str, largest: int) -> int:
        """A whole number from 1 to the largest that there can be."""
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
            raise InputError(f"{name} of {self.path} is {value!r}; expected a whole number from 1 to {largest}")
        return value

    def part(self, name: str) -> "Config":
        """A configuration within it."""
        value = self.get(name)
        if not isinstance(value, dict):
            raise InputError(f"{self.path} has no {name}; expected the settings of a sparse autoencoder: {AGAIN}")
        return Config(self.path, value)


def read_config(path: Path) -> Config:
    """The settings in a JSON file.

    Raises:
        InputError: there is none, or it holds no settings.
    """
    if not path.is_file():
        raise InputError(f"there is no {path.name} in {path.parent}; expected it beside the weights: copy it there")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected JSON: {AGAIN}") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds a {type(values).__name__}; expected the settings of a sparse autoencoder: {AGAIN}"
        )
    return Config(path, values)


def read_weights(path: Path) -> Weights:
    """All arrays of numbers of a file: .npz, .safetensors, or .pt, of which nothing but tensors is
    taken."""
    if path.suffix == ".pt":
        return Weights(path, _tensors(path))
    names = array_names(path) or []
    return Weights(path, {name: read_array(path, name) for name in names})


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is of many kinds
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} cannot be read ({reason}); expected tensors by name and no code: {AGAIN}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no tensors by name; expected the weights of a sparse autoencoder: {AGAIN}")
    return {str(name): value.detach().float().numpy() for name, value in found.items()}
