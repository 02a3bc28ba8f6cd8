"""Settings of a training run: how to train, and the record of everything a run depends on."""

import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.inference import ENGINES
from itervae.model import MODELS, ModelSettings, PoissonVAESettings
from itervae.sequence import SequenceSettings

DEFAULT_MINUTES = 2.5
PATHS = ("data_path", "val_path", "freeze")
"""Settings that name files."""


@dataclass
class TrainingSettings:
    """Optimization, schedules and budget."""

    updates: int | None = None
    """Number of parameter updates; the run ends when either budget does."""
    minutes: float | None = None
    """Wall-clock budget in minutes; 2.5 where neither budget is given."""
    batch_size: int = 200
    """Data per update."""
    lr: float | None = None
    """Peak learning rate of Adamax, after a warm-up of 1% and before a cosine decay to 1e-5; by default 0.03 for a
    dictionary under a solver, 0.01 with lista and recurrent, 0.002 where an encoder is trained or the decoder is a
    network, and a rate of its own for a carryover."""
    gradient: Literal["unroll", "checkpoint", "truncate", "envelope", "implicit"] | None = None
    """Gradient through inference; by default envelope for an engine without parameters of its own whose last
    step alone counts, else unroll.
    implicit differentiates the optimum that the steps approach, by a linear system per datum."""
    truncate_steps: int = 5
    """Steps kept by --gradient truncate."""
    estimator: Literal["exact", "eat", "straight-through", "gumbel-softmax", "pathwise", "score"] | None = None
    """Gradient of the reconstruction term; by default exact where there is a closed form, else eat (poisson), pathwise
    (gaussian, laplace) or gumbel-softmax (categorical)."""
    samples: int = 1
    """Samples per datum of the estimators that sample; score needs at least 2."""
    temperature: float = 0.05
    """Final temperature of relaxed samples; it falls from 1 over the first half of the run."""
    loss: Literal["final", "steps", "sequence"] | None = None
    """What of the steps of inference is trained: the last, the mean of all, or the mean of all with the KL of each step
    to the one before. By default final; steps for semi-amortized, sequence for spiking-lca."""
    target: Literal["free-energy", "optimal-rates"] = "free-energy"
    """What the engine is trained on: the free energy or, with --freeze, the distance KL(q* ‖ q) to the best
    posterior."""
    freeze: Path | None = None
    """Run folder, checkpoint or dictionary file whose model is kept as it is, while the engine is trained on it."""
    beta_ramp: float = 0.0
    """Share of the run over which beta rises linearly, from a ten-thousandth of its value (published: 0.5)."""
    clip: float = 500.0
    """Largest norm of the gradient of the mean free energy; larger ones are scaled down."""
    mixed_precision: bool = False
    """bfloat16 in encoders and in decoders that are not linear."""
    compile: bool = False
    """Compile the steps of inference (torch.compile) where numba does not, on a GPU or with --gradient unroll, say: a
    minute first, then faster steps on large batches."""
    validate_every: int = 500
    """Updates between validations, each of which also writes a checkpoint."""
    seed: int = 0
    """Seed of the model's start, the data order and the samples."""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto: the first GPU where there is one."""
    threads: int | None = None
    """CPU threads; all cores by default."""

    def budget(self) -> tuple[int | None, float | None]:
        """(updates, minutes), with the default where neither is given."""
        if self.updates is None and self.minutes is None:
            return None, DEFAULT_MINUTES
        return self.updates, self.minutes


@dataclass
class RunSettings:
    """Everything a run depends on. Written flat, one name a setting, in `config.yaml` and in checkpoints."""

    inference: str = "lca-unrolled"
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=PoissonVAESettings)
    engine: Any = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sequence: SequenceSettings = field(default_factory=SequenceSettings)

    def __post_init__(self) -> None:
        if self.engine is None:
            self.engine = ENGINES[self.inference].Settings()

    def flat(self) -> dict[str, Any]:
        """Plain values by name, without nesting."""
        name = next(name for name, kind in MODELS.items() if isinstance(self.model, kind))
        values: dict[str, Any] = {"inference": self.inference, "model": name}
        for group in (self.data, self.model, self.engine, self.training, self.sequence):
            values |= asdict(group)
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

    def located(self) -> "RunSettings":
        """The same with absolute paths, which hold wherever the run is looked at or resumed from."""
        return replace(self, data=_located(self.data), training=_located(self.training))

    @classmethod
    def from_flat(cls, values: dict[str, Any]) -> "RunSettings":
        """The inverse of `flat`; missing names take their defaults, unknown ones are the caller's to refuse.

        Raises:
            InputError: an engine or a model that is not known here.
        """
        inference, model = values.get("inference", "lca-unrolled"), values.get("model", "poisson-vae")
        for what, name, known in (("inference engine", inference, ENGINES), ("model", model, MODELS)):
            if not isinstance(name, str) or name not in known:
                raise InputError(
                    f"the run has {what} {name!r}, which is not known here; expected one of {', '.join(known)}: one of "
                    "your own has to be imported and listed first, as when the run was trained"
                )

        def group(kind: type) -> Any:
            names = {field.name for field in fields(kind)}
            chosen = {name: value for name, value in values.items() if name in names}
            for name in PATHS:
                if isinstance(chosen.get(name), str):
                    chosen[name] = Path(chosen[name])
            return kind(**chosen)

        return cls(
            inference,
            group(DataSettings),
            group(MODELS[model]),
            group(ENGINES[inference].Settings),
            group(TrainingSettings),
            group(SequenceSettings),
        )


def _located(group: Any) -> Any:
    paths = {name: value for name in PATHS if (value := getattr(group, name, None)) is not None}
    return replace(group, **{name: Path(os.path.abspath(Path(value).expanduser())) for name, value in paths.items()})
