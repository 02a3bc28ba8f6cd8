"""What the families share: the prior over latents."""

from copy import copy
from typing import Any, ClassVar

from torch import Tensor, nn

from itervae.arguments import check_whole


class Prior(nn.Module):
    """The static prior p(z). `forward` gives it as a distribution; `posterior` gives members of the
    family that belongs to it.

    Args:
        maps: units with parameters of their own.
        places: latents that share each of these, side by side: the places of a map of a
            convolutional dictionary.
    """

    symbol: ClassVar[str] = "F"
    """Symbol of the objective in tables and pictures."""
    terms: ClassVar[tuple[str, str, str]] = ("free energy", "KL", "Σ|mean|")
    """What the objective, its second part and the activity are called."""
    unit: ClassVar[str] = "nats"
    """Unit of the objective and its parts; empty where they are no log-probabilities."""
    dense_optimum: ClassVar[bool] = False
    """Whether the best posterior is found by systems with the dictionary as a matrix."""

    def __init__(self, maps: int, places: int = 1) -> None:
        super().__init__()
        check_whole("latents", maps, 1)
        check_whole("places", places, 1)
        self.maps, self.places = maps, places

    @property
    def latents(self) -> int:
        """K, at all places together."""
        return self.maps * self.places

    def at(self, places: int) -> "Prior":
        """The same prior, with the same parameters, over so many places."""
        found = copy(self)
        found.places = places
        return found

    def everywhere(self, value: Tensor) -> Tensor:
        """Parameters of the units (maps,) at every place (K,)."""
        return value if self.places == 1 else value.repeat_interleave(self.places)

    @property
    def name(self) -> str:
        """The family, as on the command line, with its activation if it has one:
        "gaussian-relu"."""
        return type(self).__name__.removesuffix("Prior").lower()

    @property
    def capabilities(self) -> frozenset[str]:
        """What an engine may require, as far as the prior decides it."""
        raise NotImplementedError

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Any:
        """A member of the prior's family with these parameters (B, parts · K)."""
        raise NotImplementedError

    def forward(self) -> Any:
        """The prior, over K latents."""
        raise NotImplementedError

    def _own(self, name: str, value: Tensor, learned: bool) -> None:
        """Keep parameters of the prior, learned or fixed."""
        if learned:
            setattr(self, name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)
