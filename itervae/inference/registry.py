"""The engines by name, for command lines, configurations and checkpoints; Python uses the classes.

An engine of a user's own is named MODULE:CLASS.
"""

from typing import TYPE_CHECKING, Any

from itervae.arguments import check_kind, nearest
from itervae.errors import InputError
from itervae.inference.settings import (
    AmortizedSettings,
    ISTASettings,
    LCAODESettings,
    LCASettings,
    LISTASettings,
    OptimalSettings,
    RecurrentSettings,
    SemiAmortizedSettings,
    SpikingLCASettings,
)
from itervae.own import class_name, import_class
from itervae.registry import Listed, Registry

if TYPE_CHECKING:
    from itervae.inference.engine import Engine
    from itervae.inference.gradients import Gradient

HERE = "itervae.inference"
ENGINES: "Registry[type[Engine]]" = Registry(
    {
        "amortized": Listed(f"{HERE}.engines.amortized:Amortized", AmortizedSettings),
        "lca-unrolled": Listed(f"{HERE}.engines.lca:LCAUnrolled", LCASettings),
        "ista-unrolled": Listed(f"{HERE}.engines.ista:ISTAUnrolled", ISTASettings),
        "fista-unrolled": Listed(f"{HERE}.engines.ista:FISTAUnrolled", ISTASettings),
        "lista": Listed(f"{HERE}.engines.lista:LISTA", LISTASettings),
        "recurrent": Listed(f"{HERE}.engines.recurrent:Recurrent", RecurrentSettings),
        "semi-amortized": Listed(f"{HERE}.engines.semi_amortized:SemiAmortized", SemiAmortizedSettings),
        "lca-ode": Listed(f"{HERE}.engines.ode:LCAODE", LCAODESettings),
        "spiking-lca": Listed(f"{HERE}.engines.spiking:SpikingLCA", SpikingLCASettings),
        "optimal": Listed(f"{HERE}.engines.optimal:Optimal", OptimalSettings),
    }
)
"""The engines by name, in the order in which they are listed."""
GRADIENTS: "Registry[type[Gradient]]" = Registry(
    {
        "unroll": Listed(f"{HERE}.gradients:Unroll"),
        "checkpoint": Listed(f"{HERE}.gradients:Checkpoint"),
        "truncate": Listed(f"{HERE}.gradients:Truncate"),
        "envelope": Listed(f"{HERE}.gradients:Envelope"),
        "implicit": Listed(f"{HERE}.gradients:Implicit"),
    }
)
"""Ways back through inference by name."""


def check_engine_name(name: Any) -> None:
    """Refuse what is neither the name of an engine nor MODULE:CLASS."""
    check_kind("inference engine", name, str, f"a name: one of {', '.join(ENGINES)}, or MODULE:CLASS of your own")
    if name not in ENGINES and ":" not in name:
        raise InputError(
            f"inference engine {name!r} is unknown; {nearest(name, ENGINES)}expected one of {', '.join(ENGINES)}, or "
            "MODULE:CLASS of your own"
        )


def known_engine(name: Any) -> str | type:
    """The name of an engine as it is, which imports nothing; of MODULE:CLASS the class, imported.

    Raises:
        InputError: no such engine.
    """
    check_engine_name(name)
    if name in ENGINES:
        return name
    from itervae.inference.engine import Engine

    return import_class(name, Engine)


def engine_settings(engine: str | type) -> type:
    """The `Settings` of an engine, which is not imported where it goes by its name in `ENGINES`."""
    kind: Any = engine
    return ENGINES.settings(engine) if isinstance(engine, str) else kind.Settings


def engine_name(kind: str | type) -> str:
    """The name of an engine: that of the registry, or MODULE:CLASS."""
    if isinstance(kind, str):
        return kind
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
