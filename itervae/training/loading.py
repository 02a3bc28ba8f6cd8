"""A trained run, read again: its model, its engine, and how it prepared its data."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from itervae.data import Preparation
from itervae.errors import InputError
from itervae.inference import Engine
from itervae.model import GenerativeModel
from itervae.own import check_own
from itervae.sequence import Carryover
from itervae.showing import Shown
from itervae.training.checkpoint import (
    build,
    check_keys,
    load_settings,
    load_values,
    make_carryover,
    read_checkpoint,
)
from itervae.training.files import find_checkpoint
from itervae.training.settings import RunSettings


@dataclass(frozen=True, repr=False)
class LoadedRun(Shown):
    """What a checkpoint holds.

    Attributes:
        model, engine: as trained; `model, engine = run` too.
        carryover: of a run on sequences, else None.
        settings: of the run.
        prepare: makes what the model explains of raw pictures, film or rows, as the run prepared
            its own data.
    """

    model: GenerativeModel
    engine: Engine
    carryover: Carryover | None
    settings: RunSettings
    prepare: Preparation

    def __iter__(self) -> Iterator[Any]:
        yield self.model
        yield self.engine


def load(
    target: str | Path,
    device: str | torch.device = "cpu",
    own: Collection[type] = (),
    *,
    model: GenerativeModel | None = None,
    engine: Engine | None = None,
) -> LoadedRun:
    """The trained model and its engine, from a run folder (its best checkpoint) or a checkpoint
    file.

    What is loaded asks for no gradient (`requires_grad_` turns that on). A run with an engine, a
    decoder or an encoder of your own names its class, and a file is never trusted to name code:
    hand the class over in `own`. Of a run of `itervae.train` whose model or engine was composed by
    hand, both are handed over, composed as then, and get the values of the run.

    Example:
        model, engine = itervae.load("runs/my-run")
        posterior = itervae.infer(model, engine, x).posterior

        run = itervae.load("runs/my-run")
        x = run.prepare("photograph.png").x  # patches, prepared as those of the run, or whole

        model, engine = itervae.load("runs/my-run", own=[MyEngine])
        model, engine = itervae.load("runs/my-run", model=my_model, engine=my_engine)

    Raises:
        InputError: nothing there, a damaged or foreign file, or a class that was not handed over.
    """
    check_own(own)
    path = find_checkpoint(target)
    content = read_checkpoint(path)
    described, shape = content["config"].get("objects"), tuple(content["shape"])
    if described is not None and (model is None or engine is None):
        raise InputError(
            f"the run {target} was trained in Python on {described}, composed by hand, which its file cannot make; "
            "hand both over, composed as then: itervae.load(RUN, model=model, engine=engine)"
        )
    if described is not None:
        own = [*own, *(type(part) for whole in (model, engine) for part in cast(nn.Module, whole).modules())]
    settings = load_settings(content, own)
    if model is None or engine is None:
        model, engine = build(settings, shape)
    load_values(path, model, "model", content["model"])
    load_values(path, engine, "engine", content["engine"])
    carryover = None
    if settings.data.sequential:
        check_keys(path, content, {"carryover": dict})
        carryover = make_carryover(settings, model)
        load_values(path, carryover, "carryover", content["carryover"])
        carryover = carryover.to(device).eval()
    prepare = Preparation(settings.data, shape, content.get("fitted", {}), atom_size=model.atom_size)
    for part in (model, engine, carryover):
        if part is not None:
            part.requires_grad_(False)
    return LoadedRun(model.to(device).eval(), engine.to(device).eval(), carryover, settings, prepare)


def load_sequence(
    target: str | Path, device: str | torch.device = "cpu", own: Collection[type] = ()
) -> tuple[GenerativeModel, Engine, Carryover]:
    """The model, engine and carryover of a run on sequences, as `load` reads them.

    Example:
        model, engine, carryover = itervae.load_sequence("runs/my-run")
        with torch.no_grad():
            filtered = itervae.filter_sequence(model, engine, frames, carryover)

    Raises:
        InputError: nothing there, a damaged or foreign file, or a run on data without order.
    """
    run = load(target, device, own)
    if run.carryover is None:
        raise InputError(f"{target} was not trained on sequences; expected a run of `data=video` or `data=drift`")
    return run.model, run.engine, run.carryover
