"""What synthetic data are drawn from: a dictionary that is known."""

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from itervae.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """The dictionary of synthetic data, and how its features fire. The defaults are the published
    ones of Barin Pacela et al. (2026), but for withheld combinations."""

    features: int = 1000
    """synthetic: number of true features, each an atom of unit norm in a random direction; more of
    them than values of a datum is superposition."""
    datum_size: int = 93
    """synthetic: values of a datum."""
    active: float = 10.0
    """synthetic: features that fire in a datum, in the mean."""
    firing: Literal["fixed", "independent"] = "fixed"
    """synthetic: fixed lets exactly --active features fire in each datum, all as often;
    independent lets each fire by a probability of its own."""
    zipf: float = 0.0
    """synthetic: exponent s of the probabilities of independent firing, those of feature i being
    proportional to i^(-s); 0 makes them equal."""
    correlation: float = 0.0
    """synthetic: share, from 0 to below 1, of what decides the firing of a feature that it has in
    common with others."""
    children: int = 0
    """synthetic: children of each parent, which fire only where it does; the parents are the more
    frequent features. None by default."""
    magnitudes: Literal["uniform", "exponential", "equal"] = "uniform"
    """synthetic: size of a feature that fires, of mean 1/2: uniform in (0, 1), exponential, or
    equal."""
    noise: float = 0.0
    """synthetic: standard deviation of Gaussian noise on each value."""
    withhold: bool = False
    """synthetic: withhold combinations. The first feature fires in half of the data, but never
    together with one of the last half of the features; in the test set it fires in every datum,
    with those alone."""
    num_data: int = 5000
    """synthetic: number of training and validation data together."""
    data_seed: int = 0
    """synthetic: seed of dictionary and data; --seed does not change them."""

    def check_synthetic(self) -> None:
        """Refuse settings that are out of range or contradict each other.

        Raises:
            InputError: so it is.
        """
        k = self.features
        ranges = [
            ("features", 2, inf, "a whole number of at least 2"),
            ("datum_size", 1, inf, "a whole number of at least 1"),
            ("active", 1e-9, k, f"a number above 0, and of at most the {k} features"),
            ("zipf", 0, 100, "a number of at least 0"),
            ("correlation", 0, 1 - 1e-9, "a share from 0 to below 1"),
            ("children", 0, k - 1, f"a whole number of at least 0, below the {k} features"),
            ("noise", 0, 1e9, "a number of at least 0"),
            ("num_data", 4, inf, "a whole number of at least 4"),
            ("data_seed", 0, inf, "a whole number of at least 0"),
        ]  # fmt: skip
        for name, least, most, expected in ranges:
            value: Any = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"`{name}={value}` is out of range; give {expected}.")
        if self.firing == "fixed":
            self._check_fixed()
        elif not self.withhold and (most := self.probability(1)) >= 1:
            raise InputError(
                f"`active={self.active:g}` and `zipf={self.zipf:g}` would let the first feature fire with probability "
                f"{most:.2f}; give a smaller one of them, or more `features`."
            )
        if self.children and not self.zipf:
            raise InputError(
                f"`children={self.children}` and `zipf=0` make children as frequent as their parents, which they would "
                "always fire with; give `zipf` above 0."
            )
        if self.children and self.withhold:
            raise InputError("`withhold=True` would part children from their parents; leave out `children`.")

    def _check_fixed(self) -> None:
        if self.active != int(self.active):
            raise InputError(
                f"`active={self.active:g}` is not whole, and exactly so many are to fire in each datum; give a whole "
                "number, or `firing=independent`."
            )
        for name in ("zipf", "children"):
            if getattr(self, name):
                raise InputError(
                    f"`{name}={getattr(self, name):g}` is of features that fire by probabilities of their own; add "
                    "`firing=independent`, or leave it out."
                )
        if self.withhold and self.active > self.features - self.features // 2:
            raise InputError(
                f"`active={self.active:g}` is more than the {self.features - self.features // 2} features that fire "
                "together where `withhold=True`; give fewer, or more `features`."
            )

    def probability(self, rank: int) -> float:
        """How often a feature fires, the most frequent having rank 1."""
        return self.active * rank**-self.zipf / sum(other**-self.zipf for other in range(1, self.features + 1))

    @property
    def parents(self) -> int:
        """Number of features that are no children: the first so many."""
        return -(-self.features // (1 + self.children))
