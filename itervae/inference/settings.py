"""The settings of each engine: options of `itervae train` with this engine alone, and what
`build_engine` makes it of. They are read before torch is imported."""

from dataclasses import dataclass
from typing import Annotated, Literal

from itervae.arguments import AtLeast, OneOf, Positive
from itervae.own import Module

ENCODERS = ("linear", "mlp", "conv")
"""Names of the encoders."""
FixedMethod = Literal["euler", "midpoint", "heun2", "heun3", "rk4"]
AdaptiveMethod = Literal["adaptive_heun", "fehlberg2", "bosh3", "dopri5", "dopri8"]
Method = Literal[FixedMethod, AdaptiveMethod]
"""Integrators of `lca-ode`."""


@dataclass
class NoSettings:
    """Settings of an engine that has none."""


@dataclass
class AmortizedSettings:
    """Settings of `amortized`."""

    encoder: Annotated[str, OneOf(ENCODERS)] | type[Module] = "linear"
    """Encoder from x to log δr (Poisson), or to the residual on the prior of other families; of a
    convolutional dictionary linear, one convolution, or conv, a few. A module class of your own, on
    the command line MODULE:CLASS, is made as CLASS(shape, outputs) and maps x (B, D) to (B,
    outputs)."""


@dataclass
class LCASettings:
    """Settings of `lca-unrolled`."""

    steps: Annotated[int, AtLeast(1)] = 20
    """Number of inference steps."""


@dataclass
class ISTASettings:
    """Settings of `ista-unrolled` and `fista-unrolled`."""

    steps: Annotated[int, AtLeast(1)] = 20
    """Number of inference steps."""


@dataclass
class LISTASettings:
    """Settings of `lista`."""

    steps: Annotated[int, AtLeast(1)] = 5
    """Number of inference steps, and of learned layers."""
    tied: bool = False
    """The same parameters in every layer."""
    hidden: Annotated[int, AtLeast(0)] = 16
    """Width of the network that modulates the step of each latent; 0 for learned scalars alone."""
    matrices: bool = False
    """Also learn a full K×K matrix for each layer, which mixes the gradients of latents, of a
    convolutional dictionary those of the maps at a place; it fits one dictionary only."""


@dataclass
class RecurrentSettings:
    """Settings of `recurrent`."""

    steps: Annotated[int, AtLeast(1)] = 5
    """Number of inference steps."""
    hidden: Annotated[int, AtLeast(1)] = 16
    """Width of the memory of each latent."""


@dataclass
class SemiAmortizedSettings:
    """Settings of `semi-amortized`."""

    steps: Annotated[int, AtLeast(1)] = 3
    """Number of inference steps after the encoder."""
    start_encoder: Annotated[str, OneOf(ENCODERS)] | type[Module] | None = None
    """Encoder that gives the start, as a residual on the prior; by default mlp, and conv of a
    convolutional dictionary. A linear one starts as that of a ReLU autoencoder under --freeze. Or a
    class of your own, see `AmortizedSettings`."""
    refine: Literal["fista-unrolled", "recurrent", "lca-unrolled", "ista-unrolled", "lista"] | None = None
    """Engine of the steps, with its own default settings; by default fista-unrolled, and recurrent
    where that does not fit."""


@dataclass
class LCAODESettings:
    """Settings of `lca-ode`."""

    steps: Annotated[int, AtLeast(1)] = 20
    """Number of inference steps, each one unit of time; with --tolerance the largest number."""
    method: Method = "heun3"
    """Integrator: one step of a fixed method per unit of time, or as many substeps as an adaptive
    one needs."""
    rtol: Annotated[float | None, Positive()] = None
    """Relative tolerance of an adaptive method, 1e-3 by default."""
    atol: Annotated[float | None, Positive()] = None
    """Absolute tolerance of an adaptive method, 1e-4 by default."""
    adjoint: bool = False
    """Gradients by the adjoint equation, with memory for the steps alone, in place of
    back-propagation through the substeps; adaptive methods only."""
    tolerance: Annotated[float | None, Positive()] = None
    """Certificate in nats at which a datum is at rest and leaves the batch; by default all data
    take all steps."""


@dataclass
class SpikingLCASettings:
    """Settings of `spiking-lca`."""

    steps: Annotated[int, AtLeast(1)] = 16
    """Number of inference steps."""
    step_size: Annotated[float | None, Positive()] = None
    """Step size η, nats of log-rate per unit of drive: 0.05 by default, or 1 where it is
    learned."""
    rule: Literal["derived", "published"] = "derived"
    """Update: as the free energy has it, in steps that cannot diverge; or as published, u + η[Φᵀ(x
    − Φz)/σ² − e^b], with η and a bias b of each latent learned."""
    clamps: Literal["hard", "soft", "rising"] = "hard"
    """What bounds the change of a potential in a step, and the potential: hard, 2 nats and 10;
    soft, which bends them towards 7 and 8, and lets neither be below -8; or rising, soft ones which
    are 2 when training begins and rise to 10 over its first half, as published for linear
    decoders."""


@dataclass
class OptimalSettings:
    """Settings of `optimal`."""

    steps: Annotated[int, AtLeast(1)] = 1000
    """Largest number of inference steps."""
    tolerance: Annotated[float, Positive(" of nats")] = 1e-6
    """Certificate in nats at which a datum is finished."""
