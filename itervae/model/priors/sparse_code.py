"""Classic sparse coding (Olshausen & Field 1996): a cost of coefficients in place of a prior."""

import torch
from torch import Tensor

from itervae.arguments import check_positive
from itervae.distributions import SparseCode, SparsityCost
from itervae.model.prior import Prior


class SparsityPrior(Prior):
    """p(a) ∝ exp(−Σ_k C(a_k)) with the threshold θ of the cost, which is not learned.

    Args:
        latents: K.
        threshold: θ > 0.
        signed: coefficients of any sign.
        hard: the hard threshold (see `SparsityCost`).
        places: of each map of a convolutional dictionary.
    """

    name = "sparse code"  # pyright: ignore[reportAssignmentType]
    threshold: Tensor
    symbol = "E"
    terms = ("energy", "sparsity cost", "Σ|a|")
    unit = ""

    def __init__(
        self, latents: int, threshold: float, signed: bool = False, hard: bool = False, places: int = 1
    ) -> None:
        super().__init__(latents, places)
        threshold = check_positive("threshold", threshold, ", in units of the data")
        self.signed = signed
        self.hard = hard
        self.register_buffer("threshold", torch.tensor(threshold))

    @property
    def capabilities(self) -> frozenset[str]:
        """A hard threshold has a cost that is not convex, so its optimum cannot be proved."""
        return frozenset(
            {"Poisson family or sparse coding"}
            if self.hard
            else {"Poisson family or sparse coding", "certifiable optimum"}
        )

    def posterior(self, u: Tensor, temperature: float = 0.0) -> SparseCode:
        """The sparse code with these membrane potentials (B, K); nothing is drawn, at any
        temperature."""
        return SparseCode(u, self())

    def forward(self) -> SparsityCost:
        """The cost, over K coefficients."""
        return SparsityCost(self.latents, self.threshold, self.signed, self.hard)
