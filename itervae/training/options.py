"""How a run is trained: optimization, schedules and budget."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from itervae.arguments import OneOf
from itervae.inference.registry import GRADIENTS
from itervae.model.settings import ESTIMATORS

DEFAULT_MINUTES = 2.5
DEFAULTS: dict[str, Any] = {"truncate_steps": 5, "samples": 1, "temperature": 0.05, "beta_ramp": 0.0}
"""What is used for settings of training that are not given. They are None then, as some do not
apply to every run, and are refused where they are given and do not."""


HARD_LATE = "eat-then-straight-through"
"""The published straight-through rule of the Poisson family (Vafaii, Galor & Yates 2024): relaxed
samples, eat, while the temperature falls; once it has reached its final value, integer counts
forward with the gradient of the relaxed ones."""


@dataclass
class TrainingSettings:
    """Optimization, schedules and budget."""

    ADVANCED = (
        "dictionary_steps",
        "dictionary_memory",
        "dictionary_momentum",
        "restart_atoms",
        "gradient",
        "truncate_steps",
        "estimator",
        "samples",
        "temperature",
        "loss",
        "kl_rate",
        "target",
        "dictionary_key",
        "atoms",
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
    dictionary_steps: Literal["both", "closed-form", "gradient"] | None = None
    """How the dictionary of a linear decoder, and prior rates of Poisson latents, are learned:
    closed-form sets them to the best for the codes of the updates so far, of which older ones fade;
    both goes on with the gradient after the first 30% of the run, and 500 updates. By default both
    for an engine without parameters of its own, else gradient."""
    dictionary_memory: int | None = None
    """Updates that closed-form steps remember at most; by default about a third of those so far. 1
    is for batches of all data."""
    dictionary_momentum: float | None = None
    """Share, such as 0.8, of the last change of the dictionary by which a closed-form step goes
    beyond its best; by default none. With batches of all data and a memory of 1 fewer updates are
    needed."""
    restart_atoms: float | None = None
    """Closed-form steps start atoms again, every 20 updates, from what the worst explained data
    lack: by default atoms that no datum uses; with a share, such as 0.3, those too that add less
    than this share of the median to the data, leaving out the datum that uses each most: such an
    atom has learned one datum by heart."""
    gradient: Annotated[str, OneOf(GRADIENTS)] | None = None
    """Gradient through inference; by default envelope for an engine without parameters of its own
    whose last step alone counts, else unroll. `implicit` differentiates the optimum that the steps
    approach, by a linear system per datum."""
    truncate_steps: int | None = None
    """Steps kept by --gradient truncate, by default 5."""
    estimator: Annotated[str, OneOf((*ESTIMATORS, HARD_LATE))] | None = None
    """Gradient of the reconstruction term; by default exact where there is a closed form, else eat
    (poisson), pathwise (gaussian, laplace) or gumbel-softmax (categorical).
    eat-then-straight-through is the published rule of poisson: straight-through once the
    temperature has fallen, eat before."""
    samples: int | None = None
    """Samples per datum of the estimators that sample, by default 1; score needs at least 2."""
    temperature: float | None = None
    """Final temperature of relaxed samples, by default 0.05; it falls from 1 over the first half of
    the run."""
    loss: Literal["final", "steps", "sequence"] | None = None
    """What of the steps of inference is trained: the last, the mean of all, or the mean of all with
    the KL of each step to the one before. By default final; steps for semi-amortized, sequence for
    spiking-lca."""
    kl_rate: Literal["prior", "posterior"] = "prior"
    """Rate that weighs the KL of each step under --loss sequence: that of the prior, as the free
    energy has it, or of the posterior, as the published code of the iterative P-VAE does: the KL of
    each latent times posterior over prior rate."""
    target: Literal["free-energy", "optimal-rates"] = "free-energy"
    """What the engine is trained on: the free energy or, with --freeze, the distance KL(q* ‖ q) to
    the best posterior."""
    freeze: Path | None = None
    """Run folder, checkpoint, dictionary file or folder of a sparse autoencoder whose model is kept
    as it is, while the engine is trained on it."""
    dictionary_key: str | None = None
    """Name of the dictionary in the file of --freeze that holds several arrays."""
    atoms: Literal["columns", "rows"] | None = None
    """Where the atoms lie in the dictionary file of --freeze, by default columns."""
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

    def estimator_at(self, temperature: float) -> str | None:
        """The estimator where the schedule of the run has this temperature; None for the model's
        default."""
        if self.estimator != HARD_LATE:
            return self.estimator
        return "straight-through" if math.isclose(temperature, self.used("temperature")) else "eat"

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
