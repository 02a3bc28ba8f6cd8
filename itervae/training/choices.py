"""What a run decides from its settings before it starts, and what it refuses."""

import torch

from itervae.errors import InputError
from itervae.inference import (
    GRADIENTS,
    Checkpoint,
    Engine,
    Gradient,
    Optimal,
    Truncate,
    Unroll,
    check_implicit,
)
from itervae.model import GenerativeModel, VAESettings, estimators_for
from itervae.training.checks import check_values
from itervae.training.options import HARD_LATE
from itervae.training.settings import RunSettings

WITHOUT_TEMPERATURE = ("exact", "pathwise", "score")
"""Estimators whose samples have no temperature."""


def check_settings(settings: RunSettings) -> None:
    """Refuse settings that are out of range or do not fit each other, before anything is made."""
    check_values(settings)
    if settings.model.decoder == "convolutional":
        settings.data.check_pictures()
    _check_estimator(settings)


def _check_estimator(settings: RunSettings) -> None:
    """Refuse an estimator that the model does not have, and settings that the estimator does not
    use."""
    options, model = settings.training, settings.model
    offered = estimators_for(model) if isinstance(model, VAESettings) else ("exact",)
    offered += (HARD_LATE,) if "eat" in offered else ()
    estimator = options.estimator or offered[0]
    if estimator not in offered:
        why = "does not fit this model"
        if estimator == "exact" and isinstance(model, VAESettings):
            why = f"needs a linear decoder and a Gaussian likelihood, not {model.decoder_name} and {model.likelihood}"
        raise InputError(f"`estimator={estimator}` {why}; use one of {', '.join(offered)}")
    unused = {
        "samples": estimator == "exact",
        "temperature": estimator in WITHOUT_TEMPERATURE,
        # a frozen model brings its own
        "indicator": estimator not in ("eat", "straight-through", HARD_LATE) and options.freeze is None,
    }
    for name, idle in unused.items():
        group = model if name == "indicator" else options
        if idle and getattr(group, name, None) is not None:
            what = "the exact free energy, which draws no samples" if estimator == "exact" else f"estimator {estimator}"
            remedy = f", or add `estimator={offered[1]}`" if estimator == "exact" and len(offered) > 1 else ""
            raise InputError(f"`{name}={getattr(group, name)}` does not apply to {what}; leave it out{remedy}")
    if estimator == "score" and options.used("samples") < 2:
        raise InputError(
            f"`samples` is {options.used('samples')}; `estimator=score` needs at least 2, each a baseline of the rest"
        )


def choose_device(name: str, number: int | None = None) -> torch.device:
    """The device of that name; auto is the first GPU where there is one, else the CPU. One of
    several processes on a machine takes the GPU of its own `number`.

    Raises:
        InputError: no such device, more processes than GPUs, or one GPU named for several
            processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and number is not None:
        if name != "cuda":
            raise InputError(f"`device={name}` is one GPU for several processes; give `device=cuda`, or auto")
        if number >= torch.cuda.device_count():
            raise InputError(
                f"there are {torch.cuda.device_count()} GPUs for at least {number + 1} processes on this machine; "
                "start one process a GPU, or give `device=cpu`"
            )
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here ({error}); use auto, cpu, cuda or cuda:N") from error
    return device


def choose_gradient(settings: RunSettings, engine: Engine, model: GenerativeModel) -> Gradient:
    """The gradient mode of a run: the one named, else envelope unless the engine has parameters or
    every step counts."""
    learned = has_parameters(engine)
    if settings.training.gradient is not None and (engine.tolerance is not None or not engine.steps):
        raise InputError(
            f"`gradient={settings.training.gradient}` does not apply to {settings.engine_name}, whose gradient has one "
            "way back; leave it out"
        )
    if settings.training.gradient == "implicit":
        if learned:
            raise InputError(
                f"`gradient=implicit` gives the parameters of {settings.engine_name} no gradient, as the optimum does "
                "not depend on them; use unroll, checkpoint or truncate"
            )
        check_implicit(model, engine)
    every = engine.steps and (settings.training.loss or engine.recipe.loss) != "final"
    name = settings.training.gradient or ("unroll" if learned or every else "envelope")
    if name == "truncate":
        return Truncate(settings.training.used("truncate_steps"))
    return GRADIENTS[name]()


def check_objective(settings: RunSettings, engine: Engine, model: GenerativeModel, gradient: Gradient) -> None:
    """Refuse a loss or a target that engine, model or gradient cannot serve."""
    loss, target = settings.training.loss or engine.recipe.loss, settings.training.target
    if loss != "final" and (not engine.steps or engine.tolerance is not None):
        raise InputError(
            f"`loss={loss}` needs an engine with a fixed number of steps, and {settings.engine_name} has none; "
            "leave it out"
        )
    if loss != "final" and not isinstance(gradient, Unroll | Checkpoint):
        raise InputError(
            f"`loss={loss}` trains every step, and `gradient={settings.training.gradient}` lets no "
            "gradient through to them; add `gradient=unroll` or checkpoint"
        )
    if settings.training.kl_rate == "posterior" and (
        loss != "sequence" or target != "free-energy" or "Poisson family" not in model.capabilities
    ):
        raise InputError(
            "`kl_rate=posterior` is for the free energy of a sequence of steps on a Poisson model; add "
            "`loss=sequence`, or leave it out"
        )
    if target == "optimal-rates" and settings.training.freeze is None:
        raise InputError("`target=optimal-rates` needs a model that stays as it is; add `freeze=TARGET`")
    if target == "optimal-rates" and not Optimal.requires <= model.capabilities:
        raise InputError(
            "`target=optimal-rates` needs a model whose best posterior can be proved (a linear decoder under a "
            "Gaussian likelihood; Poisson, Gaussian or categorical); leave it out"
        )


def choose_lr(settings: RunSettings, engine: Engine, model: GenerativeModel) -> float:
    """The peak learning rate of a run: the one given, else 0.03 for a dictionary under a solver,
    that of the engine where it is learned (`Engine.recipe`), and 0.002 where the decoder is a
    network, which diverges at larger ones."""
    if settings.training.lr is not None:
        return settings.training.lr
    if not model.exact:
        return 0.002
    return engine.recipe.lr if has_parameters(engine) else 0.03


def has_parameters(engine: Engine) -> bool:
    """Whether training the engine means anything."""
    return any(parameter.requires_grad for parameter in engine.parameters())
