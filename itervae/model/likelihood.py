"""Likelihoods p(x | z) on top of a decoder's output, as negative log-likelihoods in nats."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_positive


class GaussianLikelihood(nn.Module):
    """p(x | z) = N(x; decode(z), σ²).

    The normalizer (D/2)·log 2πσ² is left out while σ² is fixed, so that σ² = 1/2 gives the
    published loss ‖x − x̂‖²; it is included when σ² is learned.

    Args:
        variance: σ², squared units of x, > 0.
        learned: make log σ² a parameter.
    """

    def __init__(self, variance: float = 0.5, learned: bool = False) -> None:
        super().__init__()
        variance = check_positive("observation variance", variance, " (the default is 0.5)")
        log_variance = torch.tensor(math.log(variance))
        self.learned = learned
        if learned:
            self.log_variance = nn.Parameter(log_variance)
        else:
            self.register_buffer("log_variance", log_variance)

    @property
    def variance(self) -> Tensor:
        """σ², a scalar tensor."""
        return self.log_variance.exp()

    def variance_in(self, dtype: torch.dtype) -> Tensor:
        """σ², computed in another precision."""
        return self.log_variance.to(dtype).exp()

    def normalizer(self, size: int) -> Tensor | float:
        """(D/2)·log 2πσ² where σ² is learned, else 0."""
        return 0.5 * size * (math.log(2 * math.pi) + self.log_variance) if self.learned else 0.0

    def negative_log_likelihood(
        self, x: Float[Tensor, "batch size"], output: Float[Tensor, "*samples batch size"]
    ) -> Float[Tensor, "*samples batch"]:
        """‖x − output‖² / 2σ² (+ normalizer); x (B, D), output (..., B, D), answer (..., B)."""
        return (x - output).square().sum(-1) / (2 * self.variance) + self.normalizer(x.shape[-1])

    def curvature(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Second derivative of the negative log-likelihood in each output: 1/σ²."""
        return (1 / self.variance).expand_as(output)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z]."""
        return output


class BernoulliLikelihood(nn.Module):
    """p(x | z) = Π_d Bernoulli(x_d; sigmoid(output_d)), for x in [0, 1]: the decoder gives
    logits."""

    def negative_log_likelihood(
        self, x: Float[Tensor, "batch size"], output: Float[Tensor, "*samples batch size"]
    ) -> Float[Tensor, "*samples batch"]:
        """Binary cross-entropy, summed over D; x (B, D), output (..., B, D), answer (..., B)."""
        return functional.binary_cross_entropy_with_logits(output, x.expand_as(output), reduction="none").sum(-1)

    def curvature(self, output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Second derivative of the negative log-likelihood in each output: p(1 − p)."""
        p = output.sigmoid()
        return p * (1 - p)

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z]."""
        return output.sigmoid()
