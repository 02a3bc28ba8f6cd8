"""Likelihoods p(x | z) on top of a decoder's output, as negative log-likelihoods in nats."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_choice, check_positive, check_whole
from itervae.devices import check_value
from itervae.errors import InputError
from itervae.model.observation import mean_of, parts
from itervae.model.settings import LINKS

LEAST = 1e-3
"""The least rate that training starts from."""
FAR = -12.0
"""Below this log softplus(a) is a − e^a/2."""


class Likelihood(nn.Module):
    """p(x | z), given what the decoder gives for z."""

    data: ClassVar[str] = "real numbers"
    """What it is a likelihood of."""

    @property
    def name(self) -> str:
        """As on the command line: "gaussian"."""
        return type(self).__name__.removesuffix("Likelihood").lower()

    def negative_log_likelihood(self, x: Tensor, output: Tensor, precision: Tensor | None = None) -> Tensor:
        """−log p(x | z), nats; x (B, D), output (..., B, D), answer (..., B).

        A `precision` w ≥ 0, (D,) or (B, D), weighs the term of each value: of a Gaussian it divides
        σ²; 0 leaves a value out.
        """
        raise NotImplementedError

    def curvature(self, output: Tensor) -> Tensor:
        """Second derivative of the negative log-likelihood in each output (..., D)."""
        raise NotImplementedError

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z]."""
        raise NotImplementedError

    def fits(self, x: Tensor) -> Tensor:
        """Whether each value of x is one that it gives a probability."""
        raise NotImplementedError

    def seen(self, x: Tensor) -> Tensor:
        """What encoders see of x."""
        return x

    def check(self, x: Tensor, place: Callable[[int], str] = "row {} of x".format, missing: bool = False) -> None:
        """Refuse data (N, D) that it gives no probability; on a GPU the check is put off.

        Args:
            x: the data, which are looked at part by part.
            place: how messages call a row.
            missing: whether NaN stands for a value that was not seen.

        Raises:
            InputError: names the first such value.
        """
        for start, part in parts(x):
            fine = self.fits(part) | part.isnan() if missing else self.fits(part)
            check_value(fine.all(), partial(self._misfit, part, fine, start, place))

    def _misfit(self, x: Tensor, fine: Tensor, start: int, place: Callable[[int], str]) -> InputError:
        """The error of data of which the first is row `start` of all, and what of them is fine."""
        row, column = (~fine).nonzero()[0].tolist()
        return InputError(
            f"`likelihood={self.name}` needs {self.data}, and {place(start + row)} holds {x[row, column].item():g} in "
            f"column {column}; use gaussian, or other data"
        )


class GaussianLikelihood(Likelihood):
    """p(x | z) = N(x; decode(z), σ²), with one σ² for all values of a datum, or one for each.

    The normalizer ½ Σ_d log 2πσ_d² is left out while σ² is fixed, so that σ² = 1/2 gives the
    published loss ‖x − x̂‖²; it is included when σ² is learned.

    Args:
        variance: σ², squared units of x, > 0.
        learned: make log σ² a parameter.
        size: D, for a variance of each value; one for all where None.
    """

    def __init__(self, variance: float = 0.5, learned: bool = False, size: int | None = None) -> None:
        super().__init__()
        variance = check_positive("observation variance", variance, " (the default is 0.5)")
        if size is not None:
            check_whole("size", size, 1)
        log_variance = torch.full(() if size is None else (size,), math.log(variance))
        self.learned = learned
        if learned:
            self.log_variance = nn.Parameter(log_variance)
        else:
            self.register_buffer("log_variance", log_variance)

    @property
    def variance(self) -> Tensor:
        """σ², () or (D,)."""
        return self.log_variance.exp()

    def common(self, dtype: torch.dtype) -> Tensor:
        """The σ² () that all values have, computed in a precision; 1 where each has its own, which
        is in `root` then."""
        if self.log_variance.ndim:
            return torch.ones((), dtype=dtype, device=self.log_variance.device)
        return self.log_variance.to(dtype).exp()

    def root(self, dtype: torch.dtype) -> Tensor | None:
        """1/σ (D,), computed in a precision, where each value has its own; else None."""
        return (-0.5 * self.log_variance.to(dtype)).exp() if self.log_variance.ndim else None

    def normalizer(self, size: int, precision: Tensor | None = None) -> Tensor | float:
        """½ Σ_d log 2πσ_d²/w_d over the values that are seen where σ² is learned, else 0; the
        `precision` w, (D,) or (B, D), is 1 where None."""
        if not self.learned:
            return 0.0
        each = (math.log(2 * math.pi) + self.log_variance).expand(size)
        if precision is None:
            return 0.5 * each.sum()
        seen = precision > 0
        return 0.5 * torch.where(seen, each - torch.where(seen, precision, 1).log(), 0).sum(-1)

    def negative_log_likelihood(
        self,
        x: Float[Tensor, "batch size"],
        output: Float[Tensor, "*samples batch size"],
        precision: Float[Tensor, "*rows size"] | None = None,
    ) -> Float[Tensor, "*samples batch"]:
        """Σ_d w_d (x_d − output_d)² / 2σ² (+ normalizer); x (B, D), output (..., B, D), w (D,) or
        (B, D), answer (..., B)."""
        error = (x - output).square() / (2 * self.variance)
        return summed(error, precision) + self.normalizer(x.shape[-1], precision)

    def curvature(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Second derivative of the negative log-likelihood in each output: 1/σ²."""
        return (1 / self.variance).expand_as(output)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z]."""
        return output

    def check(self, x: Tensor, place: Callable[[int], str] = "row {} of x".format, missing: bool = False) -> None:
        """Nothing, as any number fits; a large set is not read for that."""


class BernoulliLikelihood(Likelihood):
    """p(x | z) = Π_d Bernoulli(x_d; sigmoid(output_d)), for x in [0, 1]: the decoder gives
    logits."""

    data: ClassVar[str] = "data in [0, 1]"

    def negative_log_likelihood(
        self,
        x: Float[Tensor, "batch size"],
        output: Float[Tensor, "*samples batch size"],
        precision: Float[Tensor, "*rows size"] | None = None,
    ) -> Float[Tensor, "*samples batch"]:
        """Binary cross-entropy, summed over D; x (B, D), output (..., B, D), answer (..., B)."""
        terms = functional.binary_cross_entropy_with_logits(output, x.expand_as(output), reduction="none")
        return summed(terms, precision)

    def curvature(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Second derivative of the negative log-likelihood in each output: p(1 − p)."""
        p = output.sigmoid()
        return p * (1 - p)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z]."""
        return output.sigmoid()

    def fits(self, x: Tensor) -> Tensor:
        """Whether each value of x is in [0, 1]."""
        return (x >= 0) & (x <= 1)


class PoissonLikelihood(Likelihood):
    """p(x | z) = Π_d Pois(x_d; g(output_d + b_d)), for counts x.

    The negative log-likelihood has all its terms, log x! too, so that a free energy is a bound on
    −log p(x). These counts are the data: that latents are counts is a matter of the prior.

    Args:
        size: D.
        link: g, "softplus" or "exp"; the latter takes atoms as factors on the rate.
    """

    data: ClassVar[str] = "counts: whole numbers ≥ 0"

    def __init__(self, size: int, link: str = "softplus") -> None:
        super().__init__()
        check_whole("size", size, 1)
        check_choice("link", link, LINKS)
        self.link = link
        self.bias = nn.Parameter(torch.zeros(size))
        """b (D,): the rate of every dimension where z = 0 is g(b)."""

    def negative_log_likelihood(
        self,
        x: Float[Tensor, "batch size"],
        output: Float[Tensor, "*samples batch size"],
        precision: Float[Tensor, "*rows size"] | None = None,
    ) -> Float[Tensor, "*samples batch"]:
        """Σ_d λ_d − x_d log λ_d + log x_d!, λ = g(output + b); x (B, D), output (..., B, D), answer
        (..., B)."""
        rate, log_rate = self._rate(output)
        return summed(rate - x * log_rate + torch.lgamma(x + 1), precision)

    def curvature(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Second derivative of the negative log-likelihood in each output, in its expectation over
        x (the Fisher information): g'²/g."""
        rate, log_rate = self._rate(output)
        if self.link == "exp":
            return rate
        return ((output + self.bias).sigmoid().log() * 2 - log_rate).exp()

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], the rate."""
        return self._rate(output)[0]

    def fits(self, x: Tensor) -> Tensor:
        """Whether each value of x is a whole number of at least 0."""
        return (x >= 0) & (x == x.floor())

    def seen(self, x: Tensor) -> Tensor:
        """What encoders see of x: log(1 + x), as counts of large rates would make them start far
        off."""
        return x.log1p()

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Let the rates where z = 0 be the mean counts of data (N, D), for training to start
        from."""
        mean = mean_of(x).clamp_min(LEAST)
        self.bias.copy_(mean.log() if self.link == "exp" else mean + (-torch.expm1(-mean)).log())

    def _rate(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """λ and log λ."""
        at = output + self.bias
        if self.link == "exp":
            return at.exp(), at
        rate = functional.softplus(at)
        # far below zero softplus(a) = e^a − e^2a/2 + ..., and its logarithm would lose all digits
        near = at.clamp_min(FAR)
        return rate, torch.where(at > FAR, functional.softplus(near).log(), at - 0.5 * at.clamp_max(FAR).exp())


def summed(terms: Tensor, precision: Tensor | None) -> Tensor:
    """The terms of each value (..., D), weighed with a precision (D,) or (B, D), summed."""
    return terms.sum(-1) if precision is None else (terms * precision).sum(-1)
