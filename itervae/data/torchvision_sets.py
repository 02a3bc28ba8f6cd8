"""Labelled pictures of torchvision by the name of their class: --data torchvision:FashionMNIST."""

import difflib
import inspect
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from itervae.data.arrays import content_hash
from itervae.data.benchmarks import data_root, fetching
from itervae.data.pictures import to_colour, to_grey
from itervae.data.settings import DataSettings
from itervae.data.source import Fitted, RowSource, held_out
from itervae.errors import InputError


def torchvision_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> RowSource:
    """Pictures of a data set of torchvision as rows of intensities in [0, 1], grey or with
    `colour` of three channels, with their classes.

    A fixed random share of its training set is held out; `load_test` alone reads its test set.
    Files lie below `data_path`, with which nothing is fetched, or where those of MNIST do
    (`data_root`), and are fetched there where they are missing.

    Raises:
        InputError: no such class, one that does not give (picture, class), pictures of several
            sizes, or files that are missing, damaged, or cannot be fetched.
    """
    x, labels, shape, colour = _pictures(settings, train=True)
    train, held = held_out(len(x), settings.val_share, "pictures")
    how = "in colour" if colour else "in grey"
    if colour != settings.colour:
        how += ", which becomes grey (the luma of Rec. 601)" if colour else ", three equal channels"
    warnings.warn(
        f"`data={settings.data}`: {len(x)} pictures of {shape[-2]}x{shape[-1]} pixels, {how}, in [0, 1]", stacklevel=2
    )

    def test() -> tuple[Tensor, Tensor | None]:
        test_x, test_labels, _, _ = _pictures(settings, train=False)
        return test_x, test_labels

    return RowSource(
        settings.data,
        shape,
        x[train],
        x[held],
        seed,
        labels=labels[train],
        validation_labels=labels[held],
        binary=True,
        test=test,
        facts={"content": content_hash([x.numpy(), labels.numpy()])},
        device=device,
    )


def _pictures(settings: DataSettings, *, train: bool) -> tuple[Tensor, Tensor, tuple[int, ...], bool]:
    """Rows (N, D), classes (N,), the shape (H, W) or, with `colour`, (3, H, W), and whether they
    were in colour."""
    name = settings.data.partition(":")[2]
    rows, labels, colour, convert = [], [], False, to_colour if settings.colour else to_grey
    for image, label in _data_set(name, settings, train):
        whole = isinstance(label, int | np.integer) or (isinstance(label, Tensor) and label.dtype == torch.int64)
        if not (isinstance(image, Image.Image) and whole):
            raise _unfit(name, "does not give (picture, class)")
        values = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        colour |= values.ndim == 3
        rows.append(convert(values))
        labels.append(int(label))
        if rows[-1].shape != rows[0].shape:
            raise _unfit(name, f"has pictures of several sizes, {tuple(rows[0].shape)} and {tuple(rows[-1].shape)}")
    if not rows:
        raise _unfit(name, "is empty")
    return torch.stack(rows).flatten(1), torch.tensor(labels), tuple(rows[0].shape), colour


def _data_set(name: str, settings: DataSettings, train: bool) -> Any:
    """The object of torchvision, its files fetched where that is allowed."""
    from torchvision import datasets  # takes seconds that other data need not wait

    known = [each for each in dir(datasets) if isinstance(getattr(datasets, each), type)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean torchvision:{near[0]}?" if near else "expected one such as torchvision:FashionMNIST"
        raise InputError(f"`data=torchvision:{name}` is no data set of torchvision; {hint}")
    kind = getattr(datasets, name)
    takes = inspect.signature(kind).parameters
    given: dict[str, Any] = {}
    if "train" in takes:
        given["train"] = train
    elif "split" in takes and takes["split"].default != inspect.Parameter.empty:
        given["split"] = "train" if train else "test"
    else:
        raise _unfit(name, "has no training and test set of its own")
    needed = [
        each
        for each, option in takes.items()
        if option.default is inspect.Parameter.empty
        and option.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and each not in ("root", *given)
    ]
    if needed:
        raise _unfit(name, f"has to be told {', '.join(needed)}")
    root, download = data_root(settings)
    if "download" in takes:
        given["download"] = download
    with fetching(name, root):
        return kind(root, **given)


def _unfit(name: str, why: str) -> InputError:
    return InputError(
        f"`data=torchvision:{name}` {why}; expected labelled pictures of one size, such as torchvision:FashionMNIST, "
        "or save it as an array for `data=array`"
    )
