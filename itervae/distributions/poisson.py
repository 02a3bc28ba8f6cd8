"""The relaxed Poisson family: integer-count statistics, a reparameterized sample, and a closed-form
KL.

Vafaii, Galor & Yates (2024), "Poisson variational autoencoder"; estimators: Vafaii et al. (2026),
EAT-cubic.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import register_kl

from itervae import devices
from itervae.arguments import as_number, check_choice
from itervae.arrays import as_tensor
from itervae.devices import check_value
from itervae.distributions.arrivals import relaxed_poisson_sample
from itervae.distributions.clamp import clamped
from itervae.distributions.family import Family
from itervae.distributions.gumbel import gumbel_poisson_sample
from itervae.distributions.registry import INDICATORS, MAX_LOG_RATE
from itervae.errors import InputError, described

CLAMP = 5.0
"""An encoder's log-rates above this are bent: 5 + tanh(u − 5), so that no rate exceeds e^6."""


class RelaxedPoisson(Family):
    """A Poisson count z with rate λ = exp(log_rate), whose `rsample` is differentiable.

    `mean`, `variance`, `log_prob` and the KL are those of the integer Poisson; only `rsample` is
    relaxed: z = Σ_i s((1 − t_i)/τ) over the arrivals t_i of a Poisson process of rate λ (see
    `itervae.distributions.arrivals`).

    Args:
        log_rate: log λ, any shape.
        temperature: τ ≥ 0; 0 makes `rsample` draw integer counts without gradient. The cubic
            indicator has mean exactly λ for τ ≤ 1.
        indicator: soft indicator s, "cubic" (default) or "sigmoid" (the P-VAE's).

    Raises:
        InputError: log-rates that are no tensor, an unknown indicator, a negative temperature; from
            `sample` and `rsample`, a log-rate that is not finite or above 10.

    Example:
        >>> q = RelaxedPoisson(torch.zeros(2, 3), temperature=0.1)
        >>> q.rsample().shape, q.mean[0, 0].item()
        (torch.Size([2, 3]), 1.0)
    """

    has_rsample = True
    relaxations = ("eat", "straight-through", "gumbel-softmax")
    discrete = True
    compiled = "poisson"

    def __init__(self, log_rate: Tensor, temperature: float = 0.1, indicator: str = "cubic") -> None:
        log_rate = as_tensor("log_rate", log_rate, None, "of any shape")
        check_choice("indicator", indicator, INDICATORS)
        value = as_number(temperature)
        if value is None or not 0 <= value < math.inf:
            raise InputError(
                f"temperature is {described(temperature)}; expected a finite number ≥ 0 (0 gives integer counts)"
            )
        self.temperature = value
        self.indicator = indicator
        super().__init__(log_rate, log_rate.shape)

    @property
    def log_rate(self) -> Tensor:
        """log λ."""
        return self.u

    @property
    def rate(self) -> Tensor:
        """λ, spikes."""
        return self.log_rate.exp()

    mean = rate  # pyright: ignore[reportAssignmentType]
    variance = rate  # pyright: ignore[reportAssignmentType]

    @property
    def fisher(self) -> Tensor:
        """λ, in log-rates."""
        return self.rate

    @property
    def drawable(self) -> Tensor:
        return (self.u.isfinite() & (self.u <= MAX_LOG_RATE)).all(-1)

    @property
    def share_zero(self) -> Tensor:
        """The probability of no spike, e^−λ."""
        return torch.exp(-self.rate)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RelaxedPoisson":
        """The same distribution, its log-rates expanded to `batch_shape`."""
        return RelaxedPoisson(self.log_rate.expand(batch_shape), self.temperature, self.indicator)

    def like(self, u: Tensor) -> "RelaxedPoisson":
        return RelaxedPoisson(u, self.temperature, self.indicator)

    def at(self, temperature: float) -> "RelaxedPoisson":
        return RelaxedPoisson(self.log_rate, temperature, self.indicator)

    @staticmethod
    def clamp(u: Tensor) -> tuple[Tensor, Tensor]:
        return clamped(u, CLAMP)

    @staticmethod
    def feasible(u: Tensor) -> Tensor:
        return u.clamp_max(MAX_LOG_RATE)

    def log_prob(self, value: Tensor) -> Tensor:
        """log Pois(z; λ) = z log λ − λ − log z!, elementwise, at integer counts `value`."""
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Integer counts, without gradient; shape `sample_shape + batch_shape`."""
        with torch.no_grad():
            return relaxed_poisson_sample(self._checked(sample_shape), 0.0, generator=generator)

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        """Relaxed counts with pathwise gradient; shape `sample_shape + batch_shape`.

        `relaxation`: "eat" (the default), soft counts of arrivals; "straight-through", the integer
        count with the gradient of the relaxed count of the same arrivals (both have first
        derivatives only); "gumbel-softmax", a relaxed choice among counts (see
        `gumbel_poisson_sample`).
        """
        relaxation = relaxation or self.relaxations[0]
        if relaxation not in self.relaxations:
            raise InputError(f"relaxation is {relaxation!r}; expected one of {', '.join(self.relaxations)}")
        log_rate = self._checked(sample_shape)
        if relaxation == "gumbel-softmax" and self.temperature > 0:
            return gumbel_poisson_sample(log_rate, self.temperature, generator)
        hard = relaxation == "straight-through"
        return relaxed_poisson_sample(log_rate, self.temperature, self.indicator, generator, hard)

    def _checked(self, sample_shape: Any) -> Tensor:
        log_rate = self.log_rate
        if log_rate.numel():
            ends = torch.stack(log_rate.detach().aminmax())  # NaN where any is NaN
            check_value((ends[0] > -math.inf) & (ends[1] <= MAX_LOG_RATE), lambda: _unsampled(*ends.tolist()))
            if not devices.on_cpu(log_rate):
                log_rate = log_rate.clamp_max(MAX_LOG_RATE)  # until the check is read, sampling has to end
        return log_rate.expand(self._extended_shape(sample_shape))


def _unsampled(low: float, high: float) -> InputError:
    return InputError(
        f"cannot sample: log-rates run from {low:.4g} to {high:.4g}; expected finite values of at most "
        f"{MAX_LOG_RATE:g} (inference or training has diverged: lower the learning rate or clip gradients)"
    )


def poisson_kl(log_rate: Tensor, prior_log_rate: Tensor) -> Tensor:
    """KL(Pois(λ) ‖ Pois(r)) = r (1 − δ + δ log δ), δ = λ/r, elementwise, in nats: a metabolic cost
    of firing.

    Evaluated as r·(1 − e^d + d·e^d) for d = log δ < 0, λ·(e^{−d} − 1 + d) for d ≥ 0, and by series
    near 0, so that nothing cancels or overflows for log-rates from −40 to 10. Differentiable to any
    order: ∂KL/∂log λ = λ d and ∂KL/∂log r = r − λ.

    Args:
        log_rate: log λ of the posterior, any shape.
        prior_log_rate: log r of the prior, broadcast against it.
    """
    return _PoissonKL.apply(*torch.broadcast_tensors(log_rate, prior_log_rate))  # pyright: ignore[reportReturnType]


class _PoissonKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_rate: Tensor, prior_log_rate: Tensor) -> Tensor:
        ctx.save_for_backward(log_rate, prior_log_rate)
        d = log_rate - prior_log_rate
        down = -d.abs()  # e^down never overflows
        e = torch.expm1(down)
        # d < 0: r(d(1 + e) − e); d ≥ 0: λ(e + d)
        away = torch.where(d < 0, down * (1 + e) - e, e - down)
        # near d = 0, the series λ(d²/2 − d³/6 + d⁴/24 − …)
        near = d.square() * (
            1 / 2 - d * (1 / 6 - d * (1 / 24 - d * (1 / 120 - d * (1 / 720 - d * (1 / 5040 - d / 40320)))))
        )
        small = d.abs() < 0.06
        rate = torch.where(small | (d >= 0), log_rate, prior_log_rate).exp()
        return rate * torch.where(small, near, away)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,) = grad_outputs
        log_rate, prior_log_rate = ctx.saved_tensors
        d = log_rate - prior_log_rate
        to_rate = grad * log_rate.exp() * d if ctx.needs_input_grad[0] else None
        to_prior = None
        if ctx.needs_input_grad[1]:  # r − λ without cancellation, and without overflow on either side
            above = d >= 0  # smooth at d = 0, where |d| and sign(d) would have derivative 0
            larger = torch.where(above, log_rate, prior_log_rate).exp()
            loss = larger * torch.expm1(torch.where(above, -d, d))
            to_prior = grad * torch.where(above, loss, -loss)
        return to_rate, to_prior


@register_kl(RelaxedPoisson, RelaxedPoisson)
def _kl_relaxed_poisson(posterior: RelaxedPoisson, prior: RelaxedPoisson) -> Tensor:
    return poisson_kl(posterior.log_rate, prior.log_rate)
