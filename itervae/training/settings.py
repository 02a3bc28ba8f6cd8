"""The record of everything a run depends on."""

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from itervae.arguments import check_choice, setting_kinds
from itervae.data import DataSettings
from itervae.errors import InputError, described
from itervae.inference.registry import ENGINES, engine_name, engine_settings, known_engine
from itervae.model import MODELS, ModelSettings, PoissonVAESettings
from itervae.own import check_own, class_name, given_class, is_class_name
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training.groups import check_names, groups_of, read_group, without_defaults
from itervae.training.options import TrainingSettings

if TYPE_CHECKING:
    from itervae.data import Source
    from itervae.inference import Engine
    from itervae.model import GenerativeModel


@dataclass
class RunSettings:
    """Everything a run depends on. Written flat, one name a setting, in `config.yaml` and in
    checkpoints."""

    inference: "str | type[Engine]" = "lca-unrolled"
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
            self.inference = known_engine(self.inference)
        check_own(self.own)
        check_choice("carryover", self.sequence.carryover, CARRYOVERS)
        if isinstance(self.inference, type):
            self.inference = _listed_or_own(self.inference)
        if isinstance(self.inference, type):
            check_names(self.inference, groups_of(self.inference, self.model_name, self.sequence.carryover))
        if self.engine is None:
            self.engine = engine_settings(self.inference)()
        if self.carryover is None:
            self.carryover = CARRYOVERS.settings(self.sequence.carryover)()

    @property
    def engine_class(self) -> "type[Engine]":
        """The class of the engine."""
        return ENGINES[self.inference] if isinstance(self.inference, str) else self.inference

    @property
    def engine_name(self) -> str:
        """The name of the engine, or MODULE:CLASS of one of a user's own."""
        return engine_name(self.inference)

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
        kind = _given_engine(inference, own) if is_class_name(inference) else None
        known_engines = ENGINES if kind is None else [inference]
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
        engine = inference if kind is None else kind
        values = without_defaults(values, groups_of(engine, model, carryover))
        return cls(
            engine,
            read_group(DataSettings, values),
            read_group(MODELS[model], values, own),
            read_group(engine_settings(engine), values, own),
            read_group(TrainingSettings, values),
            read_group(SequenceSettings, values),
            read_group(CARRYOVERS.settings(carryover), values),
            own=own,
        )


@dataclass
class Given:
    """A model and an engine of Python, and the data that they are trained on.

    Attributes:
        told: whether the settings of the run say what both are made of.
    """

    model: "GenerativeModel"
    engine: "Engine"
    source: "Source"
    told: bool

    @property
    def described(self) -> str:
        """The objects in words."""
        return f"a model with a {type(self.model.decoder).__name__}, and a {type(self.engine).__name__}"


def _listed_or_own(kind: type) -> "str | type[Engine]":
    """The name of an engine that is in the registry, else its class."""
    from itervae.inference import Engine

    if not issubclass(kind, Engine):
        raise InputError(f"inference is {described(kind)}; expected an Engine, or the name of one")
    return next((name for name, known in ENGINES.items() if known is kind), kind)


def _given_engine(name: str, own: Collection[type]) -> type:
    """The engine of a user's own that a file names."""
    from itervae.inference import Engine

    return given_class(name, own, Engine)


def _plain(value: Any) -> Any:
    """A setting as YAML and checkpoints hold it."""
    if isinstance(value, type):
        return class_name(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _located(group: Any) -> Any:
    hints = get_type_hints(type(group), include_extras=True)
    paths = {
        name: value for name, value in vars(group).items() if value is not None and Path in setting_kinds(hints[name])
    }
    return replace(group, **{name: Path(os.path.abspath(Path(value).expanduser())) for name, value in paths.items()})
