"""What a run refuses of its settings alone, before torch is imported."""

from itervae.arguments import check_fields, check_kind, check_seed
from itervae.data.kinds import SOURCES
from itervae.data.settings import check_window
from itervae.errors import InputError
from itervae.model.settings import SparseCodingSettings
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training.options import TrainingSettings
from itervae.training.settings import RunSettings


def check_values(settings: RunSettings) -> None:
    """Refuse numbers out of range before anything is made."""
    options = settings.training
    for group in (settings.model, settings.engine, settings.carryover):
        check_fields(group, type(group))
    check_seed(options.seed, "`seed`")
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
        "dictionary_memory": options.dictionary_memory,
    }
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise InputError(f"`{name}` is {value}; expected a positive number")
    for name in ("restart_atoms", "dictionary_momentum"):
        value = getattr(options, name)
        if value is not None and not 0 < value < 1:
            raise InputError(f"`{name}` is {value}; expected a share above 0 and below 1")
    if options.freeze is None:
        check_layout(options, "none is named")
    if options.truncate_steps is not None and options.gradient != "truncate":
        raise InputError(f"`truncate_steps={options.truncate_steps}` needs `gradient=truncate`; add it")
    model = settings.model
    for name in ("estimator", "beta_ramp"):
        if isinstance(model, SparseCodingSettings) and getattr(options, name) is not None:
            raise InputError(
                f"`{name}={getattr(options, name)}` does not apply to sparse coding, which has an "
                "exact energy and no beta; leave it out"
            )
    if isinstance(model, SparseCodingSettings) and not model.unit_norm and options.freeze is None:
        raise InputError(
            "`unit_norm=False` was given for a dictionary that is learned, whose atoms would grow without bound; add "
            "`freeze=TARGET`, or leave it out"
        )
    settings.sequence.check()
    memory = CARRYOVERS.settings(settings.sequence.carryover)
    check_kind("carryover", settings.carryover, memory, f"{memory.__name__}(...), for {settings.sequence.carryover}")
    if not settings.data.sequential and settings.sequence != SequenceSettings():
        values = vars(settings.sequence).items()
        raise without_order(next(n for n, v in values if v != getattr(SequenceSettings, n)), settings.data.data)
    if settings.given is None:
        settings.data.check()
    if settings.data.sequential:
        check_window(settings.sequence.window, settings.data.frames)
    if options.freeze is not None and options.beta_ramp is not None:
        raise InputError(
            f"`beta_ramp={options.beta_ramp}` changes the model, which `freeze` keeps as it is; leave one of them out"
        )
    if not 0 <= options.used("beta_ramp") < 1:
        raise InputError(f"`beta_ramp` is {options.beta_ramp}; expected a share of the run, at least 0 and below 1")
    if not 0 < options.used("temperature") <= 1:
        raise InputError(f"`temperature` is {options.temperature}; expected a number above 0 and at most 1")


def without_order(name: str, data: str) -> InputError:
    """The error of a setting of sequences that is given for data that are none."""
    kinds = " or ".join(f"`data={name}`" for name, kind in SOURCES.items() if kind.sequential)
    return InputError(f"`{name}` is for sequences, and `data={data}` has no order; use {kinds}")


def check_layout(options: TrainingSettings, why: str) -> None:
    """Refuse what is said of a dictionary file where there is none."""
    for name in ("dictionary_key", "atoms"):
        if (value := getattr(options, name)) is not None:
            raise InputError(f"`{name}={value}` is for the dictionary file of `freeze`, and {why}; leave it out")
