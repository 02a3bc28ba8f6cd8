"""Gaussian latents, or such with an activation: rectified, or exponentiated."""

from itervae.arguments import check_choice
from itervae.distributions import ACTIVATIONS, Gaussian
from itervae.model.priors.location_scale import LocationScalePrior


class GaussianPrior(LocationScalePrior):
    """p(z) = N(m, diag S²), or the law of relu(y) or e^y for such a y.

    Args:
        latents: K.
        learned: learn m and log S (K,) from 0; fixed there otherwise.
        activation: "none", "relu" or "exp".
        places: of each map, which share m and S.
    """

    dense_optimum = True

    def __init__(self, latents: int, learned: bool = False, activation: str = "none", places: int = 1) -> None:
        super().__init__(latents, learned, places)
        check_choice("activation", activation, ACTIVATIONS)
        self.activation = activation
        self.family = ACTIVATIONS[activation]

    @property
    def name(self) -> str:
        return "gaussian" if self.activation == "none" else f"gaussian-{self.activation}"

    @property
    def capabilities(self) -> frozenset[str]:
        """Without an activation the best posterior has a closed form."""
        return super().capabilities | ({"certifiable optimum"} if self.family is Gaussian else set())
