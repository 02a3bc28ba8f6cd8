"""An engine by its name, and a new one for a model; what fits a model."""

from dataclasses import fields
from typing import Any

from itervae.arguments import nearest
from itervae.errors import InputError
from itervae.inference.checks import check_engine, lacking
from itervae.inference.engine import Engine
from itervae.inference.registry import ENGINES, engine_name, known_engine
from itervae.model import GenerativeModel


def engine_class(name: Any) -> type[Engine]:
    """The engine of that name, or the one that a user names as MODULE:CLASS, which is imported.

    Raises:
        InputError: no such engine.
    """
    found = known_engine(name)
    return ENGINES[found] if isinstance(found, str) else found


def build_engine(engine: str | type[Engine], model: GenerativeModel, settings: Any = None, **named: Any) -> Engine:
    """A new engine for a model.

    Example:
        engine = itervae.build_engine("amortized", model, encoder="mlp")

    Args:
        engine: its name in `ENGINES`, or its class.
        model: the model that it will infer with.
        settings: an object of the engine's `Settings`, its defaults where None.
        named: or fields of that by name, as the options of `itervae train` are called.

    Raises:
        InputError: no such engine or setting, or a model that it does not fit.
    """
    kind = engine_class(engine) if isinstance(engine, str) else engine
    known = [each.name for each in fields(kind.Settings)]
    for name in named:
        if name not in known:
            raise InputError(
                f"{engine_name(kind)} has no setting {name!r}; {nearest(name, known)}expected "
                f"{'some of ' + ', '.join(known) if known else 'none'}"
            )
    if settings is None:
        settings = kind.Settings(**named)
    elif named:
        raise InputError(f"settings and {next(iter(named))} were given; expected one or the other: leave one out")
    check_named(kind, model)
    made = kind.build(settings, model, model.shape)
    check_engine(made)
    made.settings = settings
    return made


def fitting(model: GenerativeModel) -> list[str]:
    """The names of the engines that run on a model."""
    return [name for name, kind in ENGINES.items() if kind.requires <= model.capabilities]


def check_named(engine: str | type[Engine], model: GenerativeModel) -> None:
    """Refuse an engine, named or given as its class, that cannot run on a model.

    Raises:
        InputError: names what the model lacks and the engines that fit.
    """
    kind = engine_class(engine) if isinstance(engine, str) else engine
    if not kind.requires <= model.capabilities:
        name = engine_name(kind)
        raise InputError(f"{name} {lacking(kind, model)}; engines that fit: {', '.join(fitting(model))}")
