"""Checkpoints of a run: written whole or not at all, loadable without executing code."""

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.inference import ENGINES, Engine, check_fit
from itervae.model import GenerativeModel, PoissonVAESettings, build_model
from itervae.sequence import Carryover, build_carryover
from itervae.training.settings import RunSettings

LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
FORMAT = 1
ENCODER_START = -1.0
"""Where prior log-rates start when an encoder is trained."""


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        InputError: the file cannot be written (a full disk, say); what stood at `path` is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    try:
        write_bytes(path, buffer.getvalue())
    except InputError as error:
        raise InputError(
            f"{error}; the earlier checkpoint, if any, is intact: go on with itervae train --resume {path.parent}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything that is not one.

    Raises:
        InputError: no such file, or a truncated or foreign one.
    """
    if not path.is_file():
        raise InputError(
            f"there is no checkpoint at {path}; expected a run folder of itervae train or a .pt file of one"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, KeyError) as error:
        other = path.with_name(BEST if path.name == LAST else LAST)
        remedy = f"use {other}" if other.is_file() else "train again"
        raise InputError(
            f"checkpoint {path} is truncated or corrupt ({path.stat().st_size} bytes); expected a file written by "
            f"itervae train: {remedy}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not an itervae checkpoint of format {FORMAT}; expected one of itervae train")
    return content


def build(settings: RunSettings, shape: tuple[int, ...]) -> tuple[GenerativeModel, Engine]:
    """A new model and engine, their start decided by the run's seed; InputError where they do not fit each other."""
    described = settings.model
    if ENGINES[settings.inference].learned and isinstance(described, PoissonVAESettings):
        # from the published start an encoder ends with few, sharply tuned units, and a tail of data far off
        start = described.start_log_rate
        described = replace(described, start_log_rate=ENCODER_START if start is None else start)
    model = build_model(described, shape, settings.training.seed)
    check_fit(ENGINES[settings.inference], model)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.training.seed + 1)
        engine = ENGINES[settings.inference].build(settings.engine, model, shape)
    return model, engine


def make_carryover(settings: RunSettings, model: GenerativeModel) -> Carryover:
    """A new carryover for a model, its start decided by the run's seed; InputError where they do not fit each other."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(settings.training.seed + 2)
        return build_carryover(settings.sequence, model).to(model.beta.device)


def find_checkpoint(target: str | Path) -> Path:
    """The checkpoint that `target` names: itself, or the best (else the last) of a run folder."""
    target = Path(target)
    if not target.is_dir():
        return target
    return next((target / name for name in (BEST, LAST) if (target / name).is_file()), target / BEST)


def load_settings(content: dict[str, Any]) -> RunSettings:
    """The settings that a checkpoint was made with."""
    return RunSettings.from_flat(content["config"])


def load(target: str | Path, device: str | torch.device = "cpu") -> tuple[GenerativeModel, Engine]:
    """The trained model and its engine, from a run folder (its best checkpoint) or a checkpoint file.

    Example:
        model, engine = itervae.load("runs/my-run")
        posterior = itervae.infer(model, engine, x).posterior

    Raises:
        InputError: nothing there, or a truncated or foreign file.
    """
    model, engine, _ = _restored(read_checkpoint(find_checkpoint(target)))
    return model.to(device).eval(), engine.to(device).eval()


def load_sequence(target: str | Path, device: str | torch.device = "cpu") -> tuple[GenerativeModel, Engine, Carryover]:
    """The same, with the carryover of a run on sequences.

    Example:
        model, engine, carryover = itervae.load_sequence("runs/my-run")
        with torch.no_grad():
            filtered = itervae.filter_sequence(model, engine, frames, carryover)

    Raises:
        InputError: nothing there, a truncated or foreign file, or a run on data without order.
    """
    model, engine, carryover = _restored(read_checkpoint(find_checkpoint(target)))
    if carryover is None:
        raise InputError(f"{target} was not trained on sequences; expected a run of --data video or --data drift")
    return model.to(device).eval(), engine.to(device).eval(), carryover.to(device).eval()


def _restored(content: dict[str, Any]) -> tuple[GenerativeModel, Engine, Carryover | None]:
    settings = load_settings(content)
    model, engine = build(settings, tuple(content["shape"]))
    model.load_state_dict(content["model"])
    engine.load_state_dict(content["engine"])
    if not settings.data.sequential:
        return model, engine, None
    carryover = make_carryover(settings, model)
    carryover.load_state_dict(content["carryover"])
    return model, engine, carryover
