"""What `infer` refuses: arguments that do not fit each other, and engines that do not fit a
model."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from itervae.arguments import check_devices, check_generator, check_kind, check_whole
from itervae.arrays import as_tensor
from itervae.devices import check_value
from itervae.distributions import Family, PriorDistribution, SparsityCost
from itervae.errors import InputError, described
from itervae.inference.engine import Engine, State
from itervae.model import CAPABILITIES, GenerativeModel, PoissonLikelihood

RECORDS = ("free_energy", "certificate", "u")
"""What `infer` can keep at every step."""


def check_kinds(
    model: Any,
    engine: Any,
    x: Any,
    prior: Any,
    state: Any,
    steps: Any,
    gradient: Any,
    record: Any,
    generator: Any,
    precision: Any = None,
) -> tuple[GenerativeModel, Tensor, Tensor | None]:
    """The model, the data and their precision, as `as_data` gives them; arguments of `infer` that
    are of another kind are refused: a name or a class for an object."""
    check_model(model)
    check_engine(engine)
    model, x, precision = as_data(model, x, precision)
    if prior is not None:
        check_kind("prior", prior, Family | SparsityCost, "a distribution, such as model.prior()")
    if state is not None:
        check_kind("state", state, State, "a State: the `state` of an earlier answer, or State(u)")
        if not state.u.is_floating_point():
            raise InputError(f"the state holds {state.u.dtype}; expected floating-point values: use State(u.float())")
    if steps is not None:
        check_whole("steps", steps)
    if isinstance(gradient, type) or not hasattr(gradient, "run"):
        raise InputError(
            f"gradient is {described(gradient)}; expected one of Unroll(), Checkpoint(), Truncate(steps), Envelope(), "
            "Implicit()"
        )
    if isinstance(record, str) or not isinstance(record, Collection):
        such = record if isinstance(record, str) else RECORDS[0]
        raise InputError(f"record is {described(record)}; expected a collection of names, such as ({such!r},)")
    check_generator(generator)
    others = {
        "the model": model.beta,
        "the engine": next(engine.parameters(), None),
        "the state": None if state is None else state.u,
        "the prior": None if prior is None else prior.u,
        "the generator": generator,
    }
    check_devices(x, others)
    return model, x, precision


def check_model(model: Any) -> None:
    """Refuse what is no model, such as the pair that `itervae.load` gives."""
    how = "a GenerativeModel, the first that itervae.load(RUN) or itervae.load_dictionary(FILE) gives"
    check_kind("model", model, GenerativeModel, how)


def check_engine(engine: Any) -> None:
    """Refuse what is no engine, such as its name or its class."""
    if all(hasattr(engine, name) for name in ("init", "step", "requires")) and not isinstance(engine, type):
        for name in ("init", "step") if engine.steps else ("init",):
            if getattr(type(engine), name, None) is getattr(Engine, name):
                raise InputError(
                    f"{type(engine).__name__} does not write {name}; expected an engine that writes init and, where "
                    "it takes steps, step"
                )
        return
    what = f"{engine!r}, a name" if isinstance(engine, str) else described(engine)
    how = "an engine, such as LCAUnrolled(steps=20)"
    if isinstance(engine, type):
        how = f"one of its objects: {engine.__name__}(...)"
    raise InputError(f"engine is {what}; expected {how}")


def as_data(model: Any, x: Any, precision: Any = None) -> tuple[GenerativeModel, Tensor, Tensor | None]:
    """The model for data of this shape (`GenerativeModel.meet`); the data as a tensor (B, D), of
    the number type and on the device of the model where they are an array or lists, with what is
    not seen filled in; and their precision. What is no model is refused, and data or a precision of
    another shape."""
    check_model(model)
    model, x = model.meet(as_tensor("x", x, model.beta))
    if x.ndim != 2:
        raise InputError(
            f"x has shape {tuple(x.shape)}; expected (B, D): flatten each datum to one row, x.reshape(len(x), -1)"
        )
    if x.shape[1] != model.size:
        remedy = "transpose it: x.mT" if len(x) == model.size else "use data of that size, or another model"
        raise InputError(f"x has {x.shape[1]} values per datum; this model explains data of {model.size}: {remedy}")
    check_devices(x, {"the model": model.beta})
    x, precision = model.seen(x, precision)
    if isinstance(model.likelihood, PoissonLikelihood):  # it gives other data no probability at all
        model.likelihood.check(x)
    return model, x, precision


def check_inputs(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    prior: PriorDistribution,
    state: State | None,
    steps: int | None,
    record: Collection[str],
) -> None:
    """Refuse what `infer` cannot work with, naming the value, what was expected and what to do."""
    check_fit(type(engine), model)
    check_finite_rows("x", x, "values", "values: clean them")
    own = model.prior()
    if type(prior) is not type(own):
        raise InputError(
            f"the prior is a {type(prior).__name__}; this model has a {type(own).__name__}: use one of those"
        )
    if isinstance(prior, SparsityCost) and isinstance(own, SparsityCost) and vars(prior) != vars(own):
        raise InputError(
            f"the prior is another sparsity cost than the model's (threshold {prior.threshold.item():g} for "
            f"{own.threshold.item():g}, or of another kind); leave it out, or make a model with it"
        )
    width = len(own.u)
    if prior.u.shape not in ((width,), (len(x), width)):
        raise InputError(
            f"the prior has parameters of shape {tuple(prior.u.shape)}; expected ({width},) or ({len(x)}, {width})"
        )
    parameters = prior.u.detach()
    check_value(
        torch.isfinite(parameters).all(),
        lambda: InputError(
            f"the prior has NaN or infinite parameters, {int((~torch.isfinite(parameters)).sum())} of "
            f"{parameters.numel()}; expected finite ones: the model has diverged, or its file is damaged"
        ),
    )
    if state is not None and state.u.shape != (len(x), width):
        raise InputError(f"the state has shape {tuple(state.u.shape)}; expected ({len(x)}, {width})")
    if state is not None:
        check_finite_rows("the state", state.u, "parameters", "ones")
    for name, value in () if state is None else state.memory.items():
        if len(value) != len(x):
            raise InputError(
                f"the state's {name} is of {len(value)} data; expected {len(x)}: hand over State(u) instead"
            )
    if steps and not engine.steps:
        raise InputError(f"steps is {steps}, but {type(engine).__name__} infers in one pass; leave steps out")
    if unknown := [str(name) for name in record if name not in RECORDS]:
        raise InputError(f"cannot record {', '.join(sorted(unknown))}; expected some of {', '.join(RECORDS)}")
    if record and engine.tolerance is not None:
        raise InputError(
            f"cannot record {', '.join(record)}: {type(engine).__name__} stops each datum by its own certificate; "
            "leave record out, or use an engine with a fixed number of steps"
        )


def check_finite_rows(name: str, value: Tensor, what: str, expected: str) -> None:
    """Refuse a tensor (B, …) that is not finite, saying in how many rows; on a GPU the check is put
    off."""
    value = value.detach()
    if not value.numel():
        return

    def error() -> InputError:
        bad = int((~torch.isfinite(value)).any(1).sum())
        return InputError(
            f"{name} has NaN or infinite {what} in {bad} of {len(value)} data; expected finite {expected}"
        )

    check_value(torch.isfinite(torch.stack(value.aminmax())).all(), error)


def check_fit(engine: type[Engine], model: GenerativeModel) -> None:
    """Refuse an engine that cannot run on a model, naming what the model lacks."""
    if engine.requires <= model.capabilities:
        return
    raise InputError(
        f"{engine.__name__} {lacking(engine, model)}; itervae.inference.fitting(model) names the engines that fit"
    )


def lacking(engine: type[Engine], model: GenerativeModel) -> str:
    """The clause that says what an engine needs and a model has not.

    Raises:
        InputError: the engine needs what no model here has.
    """
    missing = engine.requires - model.capabilities
    if unknown := missing - CAPABILITIES:
        raise InputError(
            f"{engine.__name__} requires {', '.join(map(repr, sorted(unknown)))}, which no model here has; expected "
            f"some of {', '.join(sorted(CAPABILITIES))}: mend its `requires`"
        )
    return (
        f"needs a model with {' and '.join(sorted(missing))}, and this one has a {type(model.prior).__name__} and a "
        f"{type(model.decoder).__name__} under a {type(model.likelihood).__name__}"
    )


def check_implicit(model: GenerativeModel, engine: Engine) -> None:
    """Refuse the gradient `Implicit` where there is no fixed point to differentiate, or no second
    derivative."""
    name = type(engine).__name__
    if not engine.steps:
        raise InputError(
            f"the implicit gradient was asked of {name}, whose one pass does not end at an optimum; use unroll, which "
            "back-propagates through it"
        )
    if engine.stochastic:
        raise InputError(
            f"the implicit gradient was asked of {name}, which draws spikes at every step and does not settle; use "
            "unroll"
        )
    if not model.exact:
        raise InputError(
            f"the implicit gradient needs second derivatives of the free energy; with a {type(model.decoder).__name__} "
            f"under a {type(model.likelihood).__name__} it is sampled, and its gradients are detached: use unroll, "
            "truncate or envelope"
        )
