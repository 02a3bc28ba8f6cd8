"""What data of a known dictionary were made of."""

from dataclasses import dataclass

from torch import Tensor

from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class Truth(Shown):
    """What some data were made of.

    Attributes:
        atoms: Φ (D, F), of unit norm, the true dictionary.
        codes: a (N, F), at least 0: the size of each feature in each datum, 0 where it does not
            fire.
    """

    atoms: Tensor
    codes: Tensor
