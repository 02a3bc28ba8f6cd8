"""The engines by name, for command lines, configurations and checkpoints; Python uses the classes.

An engine of a user's own is named MODULE:CLASS.
"""

from dataclasses import fields
from typing import Any

from itervae.arguments import check_kind, nearest
from itervae.errors import InputError
from itervae.inference.checks import check_engine, lacking
from itervae.inference.engine import Engine
from itervae.inference.engines.amortized import Amortized
from itervae.inference.engines.ista import FISTAUnrolled, ISTAUnrolled
from itervae.inference.engines.lca import LCAUnrolled
from itervae.inference.engines.lista import LISTA
from itervae.inference.engines.ode import LCAODE
from itervae.inference.engines.optimal import Optimal
from itervae.inference.engines.recurrent import Recurrent
from itervae.inference.engines.semi_amortized import SemiAmortized
from itervae.inference.engines.spiking import SpikingLCA
from itervae.model import GenerativeModel
from itervae.own import class_name, import_class

ENGINES: dict[str, type[Engine]] = {
    "amortized": Amortized,
    "lca-unrolled": LCAUnrolled,
    "ista-unrolled": ISTAUnrolled,
    "fista-unrolled": FISTAUnrolled,
    "lista": LISTA,
    "recurrent": Recurrent,
    "semi-amortized": SemiAmortized,
    "lca-ode": LCAODE,
    "spiking-lca": SpikingLCA,
    "optimal": Optimal,
}
"""Engines by name, in the order in which they are listed."""


def engine_class(name: Any) -> type[Engine]:
    """The engine of that name, or the one that a user names as MODULE:CLASS, which is imported.

    Raises:
        InputError: no such engine.
    """
    check_kind("inference engine", name, str, f"a name: one of {', '.join(ENGINES)}, or MODULE:CLASS of your own")
    if name in ENGINES:
        return ENGINES[name]
    if ":" in name:
        return import_class(name, Engine)
    raise InputError(
        f"inference engine {name!r} is unknown; {nearest(name, ENGINES)}expected one of {', '.join(ENGINES)}, or "
        "MODULE:CLASS of your own"
    )


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


def engine_name(kind: type[Engine]) -> str:
    """The name of an engine: that of the registry, or MODULE:CLASS."""
    return next((name for name, known in ENGINES.items() if known is kind), class_name(kind))


def split_steps(text: str) -> tuple[str, int | None]:
    """The name of an engine and a number of steps, of ENGINE or ENGINE:STEPS; None where no number
    is given.

    Raises:
        InputError: what stands for the steps is no whole number.
    """
    name, colon, last = text.strip().rpartition(":")
    if not colon:
        return last, None
    if last.isdecimal() and last.isascii():
        return name, int(last)
    if name in ENGINES or ":" in name:
        raise InputError(f"{text!r} asks for {last!r} steps; expected ENGINE:STEPS with a whole number")
    return text.strip(), None  # MODULE:CLASS


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
