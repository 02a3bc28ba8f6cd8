"""Energies, the points at which they are evaluated, and the choice between points, datum by datum.

An energy is a function of unconstrained parameters u, log-rates or membrane potentials, that give
latents of mean μ(u):

    E(u) = reconstruction(μ) + cost(u),        ∂E/∂μ = data gradient + leak

The flow of the LCA is du/dt = −∂E/∂μ.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae import devices


def dense(value: Tensor) -> bool:
    """Whether to compute a case for every datum instead of first finding the data that it concerns:
    true on a GPU, where finding them makes the host wait for the device, and in code under
    torch.compile, where it breaks the graph."""
    return not devices.on_cpu(value) or torch.compiler.is_compiling()


class Point(NamedTuple):
    """An energy evaluated at u.

    Attributes:
        value: E (B,), without gradient, up to a constant per datum.
        mean: μ (B, K), a rate or a coefficient.
        data_gradient: gradient of the reconstruction term in μ (B, K), linear in μ for a
            linear decoder.
        gradient: ∂E/∂μ = data gradient + leak (B, K).
        diagonal: diagonal of the second derivative of the reconstruction term in μ: c/σ² (K,)
            for a linear decoder, else (B, K).
    """

    value: Float[Tensor, " batch"]
    mean: Float[Tensor, "batch latents"]
    data_gradient: Float[Tensor, "batch latents"]
    gradient: Float[Tensor, "batch latents"]
    diagonal: Float[Tensor, "*batch latents"]


class Energy(ABC):
    """A function of unconstrained parameters u to be minimized, for a batch of data."""

    exact: ClassVar[bool]
    """Whether `evaluate` is free of sampling noise, so that two values can be compared."""

    def certificate(self, u: Tensor) -> Float[Tensor, " batch"]:
        """A proved bound of E(u) − E* (B,), float64, without gradient; NaN where there is none.

        It is computed anew, in float64, and includes what rounding can have done to it."""
        return torch.full_like(u[:, 0], torch.nan, dtype=torch.float64)

    def handed_on(self, u: Tensor, certificate: Tensor, given: Tensor) -> Float[Tensor, " batch"]:
        """A proved bound of E(given) − E* (B,), where `given` (B, P) is u rounded to a lower
        precision and `certificate` (B,) is the bound at u."""
        return self.certificate(given)


class SolvableEnergy(Energy):
    """An energy whose value and gradient a solver evaluates at every step."""

    @abstractmethod
    def evaluate(self, u: Float[Tensor, "batch latents"]) -> Point:
        """The energy and its gradients at u (B, K)."""


def pick(first: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The tensor (B, …) that has, for each datum, the row of `one` where `first` (B, 1) is true and
    that of `other` elsewhere. On a CPU nothing is copied where `first` is nowhere true."""
    if dense(first):
        return torch.where(first if one.ndim > 1 else first[:, 0], one, other)
    rows = first[:, 0].nonzero()[:, 0]
    return other.index_copy(0, rows, one.index_select(0, rows)) if len(rows) else other


def without(first: Tensor, value: Tensor) -> Tensor:
    """The tensor `value` (B, K) with the rows set to zero where `first` (B, 1) is true."""
    if dense(first):
        return torch.where(first, 0, value)
    return value.index_fill(0, first[:, 0].nonzero()[:, 0], 0)


def choose(first: Tensor, one: Point, other: Point) -> Point:
    """The point that has, for each datum, the values of `one` where `first` (B, 1) is true and
    those of `other` elsewhere."""
    return Point(
        pick(first, one.value, other.value),
        pick(first, one.mean, other.mean),
        pick(first, one.data_gradient, other.data_gradient),
        pick(first, one.gradient, other.gradient),
        one.diagonal,
    )
