"""The encoder of a sparse autoencoder as an engine, and the rules by which encoders leave units
silent."""

import torch
from torch import Tensor, nn

from itervae.distributions import SparsityCost
from itervae.errors import InputError
from itervae.inference import Engine, State
from itervae.inference.problem import Problem


class TopK(nn.Module):
    """The k largest of h (B, K), where they are positive; all others are 0. Gao et al. (2024),
    "Scaling and evaluating sparse autoencoders"."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, h: Tensor) -> Tensor:
        values, units = h.topk(self.k, dim=-1)
        return torch.zeros_like(h).scatter(-1, units, values.relu())


class GroupMax(nn.Module):
    """The largest of h (B, K) in each of k groups of neighbours, where it is positive."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, h: Tensor) -> Tensor:
        groups = h.unflatten(-1, (self.k, -1))
        values, units = groups.max(-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, units, values.relu()).flatten(-2)


class Jump(nn.Module):
    """h where h > t, and positive; t one number, or one of each unit (K,). Rajamanoharan et al.
    (2024), "Jumping ahead"; and BatchTopK once it is trained (Bussmann et al. 2024)."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)

    def forward(self, h: Tensor) -> Tensor:
        return torch.where(h > self.threshold, h, 0).relu()


class Gated(nn.Module):
    """The magnitude g·h + m, where it and the gate h are positive; g, m (K,). Rajamanoharan et al.
    (2024), "Improving dictionary learning with gated sparse autoencoders"."""

    gain: Tensor
    shift: Tensor

    def __init__(self, gain: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("shift", shift)

    def forward(self, h: Tensor) -> Tensor:
        return torch.where(h > 0, self.gain * h + self.shift, 0).relu()


class SAEEncoder(Engine):
    """One pass of the encoder of a sparse autoencoder:

        a = norm · rule(W(x − c) + b)

    with c the bias of its decoder, or 0, and the norms of its atoms, as the model has atoms of unit
    norm. The potentials are u = a + θ where a > 0, else 0: `posterior.mean` is a, to rounding, at
    any threshold θ of the model.

    Args:
        weight: W (K, D), and `bias`, b (K,).
        centre: c (D,).
        norms: of the atoms (K,).
        rule: module from (B, K) to codes (B, K): ReLU, `TopK`, `GroupMax`, `Jump` or `Gated`.
    """

    requires = frozenset({"dense dictionary", "Poisson family or sparse coding", "certifiable optimum"})
    weight: Tensor
    bias: Tensor
    centre: Tensor
    norms: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, centre: Tensor, norms: Tensor, rule: nn.Module) -> None:
        super().__init__()
        for name, value in {"weight": weight, "bias": bias, "centre": centre, "norms": norms}.items():
            self.register_buffer(name, value)
        self.rule = rule

    def encode(self, x: Tensor) -> Tensor:
        """The codes a (B, K) of data (B, D), in units of atoms of unit norm."""
        h = torch.addmm(self.bias, x.to(self.weight.dtype) - self.centre, self.weight.mT)
        return self.norms * self.rule(h)

    def init(self, problem: Problem, state: State | None) -> State:
        x, prior, (latents, size) = problem.x, problem.prior, self.weight.shape
        if not isinstance(prior, SparsityCost) or (problem.model.size, problem.model.latents) != (size, latents):
            raise InputError(
                f"the encoder is of a sparse autoencoder with {latents} atoms of {size} values, and this model is "
                "another; use the model that load_sae gives beside it"
            )
        a = self.encode(x).to(x.dtype)
        return State(torch.where(a > 0, a + prior.threshold.to(x.dtype), 0))
