"""What a run decides from its settings before it starts, and what it refuses."""

import torch

from itervae.arguments import check_kind, check_seed
from itervae.data import SOURCES, check_window
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
from itervae.model import GenerativeModel, SparseCodingSettings, VAESettings, estimators_for
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training.settings import RunSettings, TrainingSettings

WITHOUT_TEMPERATURE = ("exact", "pathwise", "score")
"""Estimators whose samples have no temperature."""


def check_settings(settings: RunSettings) -> None:
    """Refuse numbers out of range before anything is made."""
    options = settings.training
    check_seed(options.seed, "--seed")
    positive = {
        "updates": options.updates,
        "minutes": options.minutes,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "samples": options.samples,
        "truncate_steps": options.truncate_steps,
        "clip": options.clip,
        "validate_every": options.validate_every,
        "threads": options.threads,
    }
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number")
    if options.truncate_steps is not None and options.gradient != "truncate":
        raise InputError(f"--truncate-steps {options.truncate_steps} needs --gradient truncate; add it")
    model = settings.model
    for name in ("estimator", "beta_ramp"):
        if isinstance(model, SparseCodingSettings) and getattr(options, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} {getattr(options, name)} does not apply to sparse coding, which has an "
                "exact energy and no beta; leave it out"
            )
    if isinstance(model, SparseCodingSettings) and not model.unit_norm and options.freeze is None:
        raise InputError(
            "--no-unit-norm was given for a dictionary that is learned, whose atoms would grow without bound; add "
            "--freeze TARGET, or leave it out"
        )
    _check_estimator(options, model)
    settings.sequence.check()
    memory = CARRYOVERS[settings.sequence.carryover].Settings
    check_kind("carryover", settings.carryover, memory, f"{memory.__name__}(...), for {settings.sequence.carryover}")
    if not settings.data.sequential and settings.sequence != SequenceSettings():
        values = vars(settings.sequence).items()
        raise without_order(next(n for n, v in values if v != getattr(SequenceSettings, n)), settings.data.data)
    if settings.data.sequential:
        settings.data.check()
        check_window(settings.sequence.window, settings.data.frames)
    if options.freeze is not None and options.beta_ramp is not None:
        raise InputError(
            f"--beta-ramp {options.beta_ramp} changes the model, which --freeze keeps as it is; leave one of them out"
        )
    if not 0 <= options.used("beta_ramp") < 1:
        raise InputError(f"beta_ramp is {options.beta_ramp}; expected a share of the run, at least 0 and below 1")
    if not 0 < options.used("temperature") <= 1:
        raise InputError(f"temperature is {options.temperature}; expected a number above 0 and at most 1")


def without_order(name: str, data: str) -> InputError:
    """The error of a setting of sequences that is given for data that are none."""
    kinds = " or ".join(f"--data {name}" for name, kind in SOURCES.items() if kind.sequential)
    return InputError(f"--{name} is for sequences, and --data {data} has no order; use {kinds}")


def _check_estimator(options: TrainingSettings, model: VAESettings | SparseCodingSettings) -> None:
    """Refuse an estimator that the model does not have, and settings that the estimator does not
    use."""
    offered = estimators_for(model) if isinstance(model, VAESettings) else ("exact",)
    estimator = options.estimator or offered[0]
    if estimator not in offered:
        why = "does not fit this model"
        if estimator == "exact" and isinstance(model, VAESettings):
            why = f"needs a linear decoder and a Gaussian likelihood, not {model.decoder_name} and {model.likelihood}"
        raise InputError(f"--estimator {estimator} {why}; use one of {', '.join(offered)}")
    unused = {
        "samples": estimator == "exact",
        "temperature": estimator in WITHOUT_TEMPERATURE,
        # a frozen model brings its own
        "indicator": estimator not in ("eat", "straight-through") and options.freeze is None,
    }
    for name, idle in unused.items():
        group = model if name == "indicator" else options
        if idle and getattr(group, name, None) is not None:
            what = "the exact free energy, which draws no samples" if estimator == "exact" else f"estimator {estimator}"
            remedy = f", or add --estimator {offered[1]}" if estimator == "exact" and len(offered) > 1 else ""
            raise InputError(f"--{name} {getattr(group, name)} does not apply to {what}; leave it out{remedy}")
    if estimator == "score" and options.used("samples") < 2:
        raise InputError(
            f"--samples is {options.used('samples')}; --estimator score needs at least 2, each a baseline of the rest"
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
            raise InputError(f"--device {name} is one GPU for several processes; give --device cuda, or auto")
        if number >= torch.cuda.device_count():
            raise InputError(
                f"there are {torch.cuda.device_count()} GPUs for at least {number + 1} processes on this machine; "
                "start one process a GPU, or give --device cpu"
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
            f"--gradient {settings.training.gradient} does not apply to {settings.engine_name}, whose gradient has one "
            "way back; leave it out"
        )
    if settings.training.gradient == "implicit":
        if learned:
            raise InputError(
                f"--gradient implicit gives the parameters of {settings.engine_name} no gradient, as the optimum does "
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
            f"--loss {loss} needs an engine with a fixed number of steps, and {settings.engine_name} has none; "
            "leave it out"
        )
    if loss != "final" and not isinstance(gradient, Unroll | Checkpoint):
        raise InputError(
            f"--loss {loss} trains every step, and --gradient {settings.training.gradient} lets no "
            "gradient through to them; add --gradient unroll or checkpoint"
        )
    if target == "optimal-rates" and settings.training.freeze is None:
        raise InputError("--target optimal-rates needs a model that stays as it is; add --freeze TARGET")
    if target == "optimal-rates" and not Optimal.requires <= model.capabilities:
        raise InputError(
            "--target optimal-rates needs a model whose best posterior can be proved (a linear decoder under a "
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
