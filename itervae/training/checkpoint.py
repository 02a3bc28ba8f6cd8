"""Checkpoints of a run: written whole or not at all, proved whole when they are read, loadable
without executing code.

Format 2 is what torch.save writes, followed by a mark and the SHA-256 of all before it; torch.load
takes no notice of those. Format 1, of earlier versions, ends without them. The content says its
format, so that a file of format 2 that has lost its digest is no file of format 1.
"""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.inference import Engine, build_engine
from itervae.model import GenerativeModel, PoissonVAESettings, build_model
from itervae.sequence import CARRYOVERS, Carryover
from itervae.training.files import BEST, LAST, check_there
from itervae.training.settings import RunSettings

FORMAT = 2
"""Number of the format that is written."""
MARK = b"itervae sha-256:"
"""Bytes between what torch.save wrote and the digest at the end of a file."""
LOADED = {"config": dict, "shape": (list, tuple), "model": dict, "engine": dict}
"""Values that loading needs of a checkpoint, and their kinds; resuming needs more
(`run.RESUMED`)."""
ENCODER_START = -1.0
"""Log-rate around which priors start where an encoder is trained."""
_UNREADABLE = (
    OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, MemoryError, ImportError,
)  # fmt: skip
"""Exceptions that reading a file can raise that is no checkpoint, or no longer one."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        InputError: the file cannot be written (a full disk, say); what stood at `path` is
            untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    payload = buffer.getvalue()
    try:
        write_bytes(path, payload + MARK + hashlib.sha256(payload).digest())
    except InputError as error:
        raise InputError(
            f"{error}; the earlier checkpoint, if any, is intact: go on with itervae train --resume {path.parent}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything that is not one, whole.

    Raises:
        InputError: no such file, or a damaged or foreign one.
    """
    check_there(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read ({error}); name another") from error
    payload, mark, digest = _parts(data)
    sealed = mark == MARK
    if sealed and hashlib.sha256(payload).digest() != digest:
        raise _damaged(path, "its content and its digest disagree")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if path.suffix == ".npz":
            raise InputError(
                f"{path} is no checkpoint; expected a run of itervae train: itervae.load_dictionary reads dictionaries"
            ) from error
        if data.startswith(b"PK"):  # a zip archive, as torch writes them
            raise _damaged(path, f"{len(data)} bytes") from error
        raise InputError(
            f"{path} is no checkpoint ({len(data)} bytes); expected a file written by itervae train, such as {BEST}"
        ) from error
    if not isinstance(content, dict) or content.get("format") not in (1, FORMAT):
        raise InputError(f"{path} is not an itervae checkpoint of format 1 or {FORMAT}; expected one of itervae train")
    if content["format"] == FORMAT and not sealed:
        raise _damaged(path, "its end is missing")
    check_keys(path, content, LOADED)
    return content


def _parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Payload, mark and digest, as far as there are any."""
    end = len(data) - hashlib.sha256().digest_size
    start = end - len(MARK)
    return data[: max(start, 0)], data[max(start, 0) : max(end, 0)], data[max(end, 0) :]


def _damaged(path: Path, how: str) -> InputError:
    other = path.with_name(BEST if path.name == LAST else LAST)
    remedy = f"use {other}" if other.is_file() else "train again"
    if other.is_file() and path.name == LAST:
        remedy += f"; a copy of it in place of {path} is what `resume` can go on from"
    return InputError(
        f"checkpoint {path} is truncated or corrupt ({how}); expected a file as itervae train wrote it: {remedy}"
    )


def check_keys(path: Path, content: Mapping[str, Any], needed: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse a checkpoint without a value, or with one of another kind.

    Raises:
        InputError: names the value.
    """
    for name, kind in needed.items():
        if not isinstance(content.get(name), kind):
            found = f"has a {type(content[name]).__name__} for {name!r}" if name in content else f"has no {name!r}"
            raise InputError(f"checkpoint {path} {found}; expected one that this version of itervae train wrote")


def load_values(path: str | Path, module: nn.Module, name: str, values: dict[str, Tensor]) -> None:
    """Give a part of a run (its model, say) the values that a checkpoint has for it.

    Raises:
        InputError: they are of other names or shapes than the settings of the checkpoint say.
    """
    try:
        module.load_state_dict(values)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = " ".join(str(error).split()).partition(": ")[2] or str(error)
        raise InputError(
            f"the {name} in checkpoint {path} does not fit the settings in it ({first[:200]}); expected one that "
            "itervae train wrote: train again, or use another"
        ) from error


def build(settings: RunSettings, shape: tuple[int, ...]) -> tuple[GenerativeModel, Engine]:
    """A new model and engine, their start decided by the run's seed, or those that were given;
    InputError where they do not fit each other."""
    if settings.given is not None:
        return settings.given.model, settings.given.engine
    described, kind = settings.model, settings.engine_class
    if kind.learned and isinstance(described, PoissonVAESettings):
        # from the published start an encoder ends with few, sharply tuned units, and a tail of data
        # far off
        start = described.start_log_rate
        described = replace(described, start_log_rate=ENCODER_START if start is None else start)
    model = build_model(described, shape, settings.training.seed)
    model.missing = settings.data.missing == "nan"
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.training.seed + 1)
        return model, build_engine(kind, model, settings.engine)


def make_carryover(settings: RunSettings, model: GenerativeModel) -> Carryover:
    """A new carryover for a model, its start decided by the run's seed; InputError where they do
    not fit each other."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.training.seed + 2)
        return CARRYOVERS[settings.sequence.carryover].build(settings.carryover, model).to(model.beta.device)


def load_settings(content: dict[str, Any], own: Collection[type] = ()) -> RunSettings:
    """The settings that a checkpoint was made with; `own` are the classes of a user's own that it
    may name.

    Raises:
        InputError: an engine or a model that is not known here, or a class that was not handed
            over.
    """
    return RunSettings.from_flat(content["config"], own)
