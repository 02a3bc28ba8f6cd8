"""Settings of a training run: how to train, and the record of everything a run depends on."""

import os
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from itervae.arguments import OneOf, check_choice, setting_kinds
from itervae.data import DataSettings, Source
from itervae.errors import InputError, described
from itervae.inference import ENGINES, GRADIENTS, Engine, engine_class, engine_name
from itervae.model import ESTIMATORS, MODELS, GenerativeModel, ModelSettings, PoissonVAESettings
from itervae.own import check_own, class_name, given_class, is_class_name
from itervae.sequence import CARRYOVERS, Carryover, LinearMapSettings, SequenceSettings

DEFAULT_MINUTES = 2.5
DEFAULTS: dict[str, Any] = {"truncate_steps": 5, "samples": 1, "temperature": 0.05, "beta_ramp": 0.0}
"""What is used for settings of training that are not given. They are None then, as some do not
apply to every run, and are refused where they are given and do not."""
COMMAND_NAMES = ("inference", "model", "family", "config", "resume", "run_dir", "own")
"""Options of `itervae train` that belong to no group of settings."""
T = TypeVar("T")


@dataclass
class TrainingSettings:
    """Optimization, schedules and budget."""

    ADVANCED = (
        "gradient",
        "truncate_steps",
        "estimator",
        "samples",
        "temperature",
        "loss",
        "target",
        "beta_ramp",
        "clip",
        "mixed_precision",
        "compile",
        "validate_every",
    )
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    updates: int | None = None
    """Number of parameter updates; the run ends when either budget does."""
    minutes: float | None = None
    """Wall-clock budget in minutes; 2.5 where neither budget is given."""
    batch_size: int = 200
    """Data per update."""
    lr: float | None = None
    """Peak learning rate of Adamax, after a warm-up of 1% and before a cosine decay to 1e-5; by
    default 0.03 for a dictionary under a solver, 0.01 with lista and recurrent, 0.002 where an
    encoder is trained or the decoder is a network, and a rate of its own for a carryover."""
    gradient: Annotated[str, OneOf(GRADIENTS)] | None = None
    """Gradient through inference; by default envelope for an engine without parameters of its own
    whose last step alone counts, else unroll. `implicit` differentiates the optimum that the steps
    approach, by a linear system per datum."""
    truncate_steps: int | None = None
    """Steps kept by --gradient truncate, by default 5."""
    estimator: Annotated[str, OneOf(ESTIMATORS)] | None = None
    """Gradient of the reconstruction term; by default exact where there is a closed form, else eat
    (poisson), pathwise (gaussian, laplace) or gumbel-softmax (categorical)."""
    samples: int | None = None
    """Samples per datum of the estimators that sample, by default 1; score needs at least 2."""
    temperature: float | None = None
    """Final temperature of relaxed samples, by default 0.05; it falls from 1 over the first half of
    the run."""
    loss: Literal["final", "steps", "sequence"] | None = None
    """What of the steps of inference is trained: the last, the mean of all, or the mean of all with
    the KL of each step to the one before. By default final; steps for semi-amortized, sequence for
    spiking-lca."""
    target: Literal["free-energy", "optimal-rates"] = "free-energy"
    """What the engine is trained on: the free energy or, with --freeze, the distance KL(q* ‖ q) to
    the best posterior."""
    freeze: Path | None = None
    """Run folder, checkpoint or dictionary file whose model is kept as it is, while the engine is
    trained on it."""
    beta_ramp: float | None = None
    """Share of the run over which beta rises linearly, from a ten-thousandth of its value
    (published: 0.5); by default it does not."""
    clip: float = 500.0
    """Largest norm of the gradient of the mean free energy; larger ones are scaled down."""
    mixed_precision: bool = False
    """bfloat16 in encoders and in decoders that are not linear."""
    compile: bool = False
    """Compile the steps of inference (torch.compile) where numba does not, on a GPU or with
    --gradient unroll, say: a minute first, then faster steps on large batches."""
    validate_every: int = 500
    """Updates between validations, each of which also writes a checkpoint."""
    seed: int = 0
    """Seed of the model's start, the data order and the samples."""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto: the first GPU where there is one."""
    threads: int | None = None
    """CPU threads; all cores by default."""

    def used(self, name: str) -> Any:
        """What is used for a setting that has a default in `DEFAULTS`."""
        value = getattr(self, name)
        return DEFAULTS[name] if value is None else value

    def budget(self) -> tuple[int | None, float | None]:
        """(updates, minutes), with the default where neither is given."""
        if self.updates is None and self.minutes is None:
            return None, DEFAULT_MINUTES
        return self.updates, self.minutes

    def progress(self, update: int, seconds: float) -> float:
        """The share of the budget that is spent, in [0, 1], of whichever ends first."""
        updates, minutes = self.budget()
        by_updates = update / updates if updates else 0.0
        by_clock = seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_updates, by_clock))


@dataclass
class RunSettings:
    """Everything a run depends on. Written flat, one name a setting, in `config.yaml` and in
    checkpoints."""

    inference: str | type[Engine] = "lca-unrolled"
    """The engine: its name in `itervae.inference.ENGINES`, or a class of your own, which is
    imported where it is given as MODULE:CLASS."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=PoissonVAESettings)
    engine: Any = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)
    carryover: Any = None
    own: Collection[type] = field(default=(), compare=False, repr=False)
    """Classes of your own that the run of --freeze may name; not written."""

    given: "Given | None" = field(default=None, compare=False, repr=False)
    """Objects of Python that are trained, in place of what the settings describe."""

    def __post_init__(self) -> None:
        if not isinstance(self.inference, type):
            self.inference = engine_class(self.inference)
        if not issubclass(self.inference, Engine):
            raise InputError(f"inference is {described(self.inference)}; expected an Engine, or the name of one")
        check_own(self.own)
        check_choice("carryover", self.sequence.carryover, CARRYOVERS)
        kind, memory = self.inference, CARRYOVERS[self.sequence.carryover]
        if kind in ENGINES.values():
            self.inference = engine_name(kind)
        else:
            check_names(kind, groups_of(kind, self.model_name, memory))
        if self.engine is None:
            self.engine = kind.Settings()
        if self.carryover is None:
            self.carryover = memory.Settings()

    @property
    def engine_class(self) -> type[Engine]:
        """The class of the engine."""
        return ENGINES[self.inference] if isinstance(self.inference, str) else self.inference

    @property
    def engine_name(self) -> str:
        """The name of the engine, or MODULE:CLASS of one of a user's own."""
        return engine_name(self.engine_class)

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return next(name for name, kind in MODELS.items() if isinstance(self.model, kind))

    def flat(self) -> dict[str, Any]:
        """Plain values by name, without nesting."""
        values: dict[str, Any] = {"inference": self.engine_name, "model": self.model_name}
        for group in (self.data, self.model, self.engine, self.training, self.sequence, self.carryover):
            values |= asdict(group)
        if self.given is not None and not self.given.told:
            values["objects"] = self.given.described
        return {name: _plain(value) for name, value in values.items()}

    def located(self) -> "RunSettings":
        """The same with absolute paths, which hold wherever the run is looked at or resumed
        from."""
        return replace(self, data=_located(self.data), training=_located(self.training))

    @classmethod
    def from_flat(cls, values: dict[str, Any], own: Collection[type] = ()) -> "RunSettings":
        """The inverse of `flat`; missing names take their defaults, unknown ones are the caller's
        to refuse.

        Raises:
            InputError: an engine, a model or a carryover that is not known here, or a class of a
                user's own that is not in `own`.
        """
        inference, model = values.get("inference", "lca-unrolled"), values.get("model", "poisson-vae")
        carryover = values.get("carryover", "none")
        kind = given_class(inference, own, Engine) if is_class_name(inference) else None
        known_engines = ENGINES if kind is None else {inference: kind}
        for what, name, known in (
            ("inference engine", inference, known_engines),
            ("model", model, MODELS),
            ("carryover", carryover, CARRYOVERS),
        ):
            if not isinstance(name, str) or name not in known:
                raise InputError(
                    f"the run has {what} {name!r}, which is not known here; expected one of {', '.join(known)}: one of "
                    "your own has to be imported and listed first, as when the run was trained"
                )
        kind, memory = known_engines[inference], CARRYOVERS[carryover]
        values = without_defaults(values, groups_of(kind, model, memory))
        return cls(
            kind,
            read_group(DataSettings, values),
            read_group(MODELS[model], values, own),
            read_group(kind.Settings, values, own),
            read_group(TrainingSettings, values),
            read_group(SequenceSettings, values),
            read_group(memory.Settings, values),
            own=own,
        )


@dataclass
class Given:
    """A model and an engine of Python, and the data that they are trained on.

    Attributes:
        told: whether the settings of the run say what both are made of.
    """

    model: GenerativeModel
    engine: Engine
    source: Source
    told: bool

    @property
    def described(self) -> str:
        """The objects in words."""
        return f"a model with a {type(self.model.decoder).__name__}, and a {type(self.engine).__name__}"


def groups_of(engine: type[Engine], model: str, carryover: type[Carryover]) -> list[type]:
    """The settings classes of a run, whose names all differ."""
    return [DataSettings, SequenceSettings, MODELS[model], engine.Settings, carryover.Settings, TrainingSettings]


def read_group(kind: type[T], values: Mapping[str, Any], own: Collection[type] = ()) -> T:
    """One group of settings, from the flat values of all.

    Raises:
        InputError: a class of a user's own that is not in `own`.
    """
    chosen: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in values:
            continue
        chosen[name], kinds = values[name], setting_kinds(hint)
        if isinstance(values[name], str) and Path in kinds:
            chosen[name] = Path(values[name])
        bases = [get_args(each)[0] for each in kinds if get_origin(each) is type]
        if bases and is_class_name(values[name]):
            chosen[name] = given_class(values[name], own, bases[0])
    return kind(**chosen)


WRITTEN_DEFAULTS: dict[type, dict[str, Any]] = {
    TrainingSettings: DEFAULTS,
    PoissonVAESettings: {"indicator": "cubic"},
    LinearMapSettings: {"map": "full", "rank": 32},
}
"""What files of earlier versions say where nothing was given (of `linear`, with any carryover); it
is left out."""


def without_defaults(values: Mapping[str, Any], groups: Collection[type]) -> dict[str, Any]:
    """The settings in a file, of a run with these groups, without those that an earlier version
    wrote unasked."""
    kept = dict(values)
    for owner, defaults in WRITTEN_DEFAULTS.items():
        others = {setting.name for group in groups if group is not owner for setting in fields(group)}
        if owner in (*groups, LinearMapSettings):
            for name in defaults.keys() - others:
                if name in kept and kept[name] == defaults[name]:
                    del kept[name]
    return kept


def check_names(kind: type[Engine], groups: Collection[type]) -> None:
    """Refuse an engine of a user's own with a setting that is another group's too: all of a run are
    written side by side.

    Raises:
        InputError: names the setting.
    """
    name = class_name(kind)
    if not is_dataclass(kind.Settings):
        raise InputError(f"{name}.Settings is {described(kind.Settings)}; expected a dataclass with a default for each")
    others = [group for group in groups if group is not kind.Settings]
    taken = {setting.name for group in others for setting in fields(group)} | set(COMMAND_NAMES)
    for setting in fields(kind.Settings):
        if setting.name in taken:
            raise InputError(
                f"{name} has a setting {setting.name!r}, which is an option of itervae train already; rename it"
            )
        if setting.default is MISSING and setting.default_factory is MISSING:
            raise InputError(f"the setting {setting.name!r} of {name} has no default; expected one for each")


def _plain(value: Any) -> Any:
    """A setting as YAML and checkpoints hold it."""
    if isinstance(value, type):
        return class_name(value)
    return str(value) if isinstance(value, Path) else value


def _located(group: Any) -> Any:
    hints = get_type_hints(type(group), include_extras=True)
    paths = {
        name: value for name, value in vars(group).items() if value is not None and Path in setting_kinds(hints[name])
    }
    return replace(group, **{name: Path(os.path.abspath(Path(value).expanduser())) for name, value in paths.items()})
