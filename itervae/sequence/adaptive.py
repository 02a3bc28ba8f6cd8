"""A weight of the past that follows, datum by datum, how well the past has predicted.

Exponentially weighted experts: Vovk (1990), "Aggregating strategies"; with discounted losses, Cesa-Bianchi & Lugosi
(2006), "Prediction, learning, and games", section 2.11.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.distributions import Family, poisson_kl
from itervae.errors import InputError
from itervae.sequence.base import Carryover
from itervae.sequence.state import FilterState

SMALLEST, LARGEST = 0.02, 0.9
"""Weights of the first and of the last expert, before the units' offsets."""
START_DECAY, START_SHARPNESS = 0.5, 0.25
"""ρ and η before training."""


class Adaptive(Carryover):
    """Experts with fixed weights of the past, believed by how they did so far.

    Expert j predicts, with w_jk = σ(a_j + b_k) for a_j evenly spaced,

        r_t^{(j)} = (1 − w_j) r + w_j λ_{t−1}

    and after frame t has lost

        l_j ← ρ l_j + KL(q_t ‖ Pois(r_t^{(j)})),      less the smallest of them

    The next prior is their mixture r_t = Σ_j π_j r_t^{(j)}, π_j ∝ exp(c_j − η l_j). The offsets b_k of the units, the
    first beliefs c_j, the decay ρ in (0, 1) and η > 0 are learned.

    Args:
        size: K.
        experts: how many, J.
    """

    poisson = True
    spaced: Tensor

    def __init__(self, size: int, experts: int = 8) -> None:
        super().__init__()
        if experts < 2:
            raise InputError(f"experts is {experts}; expected a number ≥ 2")
        smallest, largest = torch.tensor([SMALLEST, LARGEST]).logit().tolist()
        self.register_buffer("spaced", torch.linspace(smallest, largest, experts), persistent=False)  # a
        self.offset = nn.Parameter(torch.zeros(size))  # b
        self.belief = nn.Parameter(torch.zeros(experts))  # c
        self.logit_decay = nn.Parameter(torch.tensor(START_DECAY).logit())
        self.log_sharpness = nn.Parameter(torch.tensor(START_SHARPNESS).log())

    def weight(self, memory: dict[str, Tensor]) -> Tensor:
        """Σ_j π_j w_j, the weight of the past for each unit (B, K)."""
        return self._beliefs(memory["loss"]) @ self._logits(memory["loss"]).sigmoid()

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        beliefs, logits = self._beliefs(self._loss(memory, past)), self._logits(past)
        kept, carried = beliefs @ (-logits).sigmoid(), beliefs @ logits.sigmoid()
        return torch.logaddexp(kept.log() + static, carried.log() + past)

    def remember(self, static: Family, state: FilterState | None, posterior: Tensor) -> dict[str, Tensor]:
        if state is None:
            return {"loss": self._loss({}, posterior)}
        logits = self._logits(posterior)
        kept = functional.logsigmoid(-logits) + static.u.to(posterior.dtype)
        experts = torch.logaddexp(kept, functional.logsigmoid(logits) + state.u[:, None])  # (B, J, K)
        loss = self.logit_decay.sigmoid().to(posterior.dtype) * self._loss(state.memory, posterior)
        loss = loss + poisson_kl(posterior[:, None], experts).sum(-1)
        loss = loss - loss.amin(-1, keepdim=True)
        return {"loss": torch.where((state.age > 0)[:, None], loss, 0)}

    def _beliefs(self, loss: Tensor) -> Tensor:
        """π (B, J)."""
        return (self.belief.to(loss.dtype) - self.log_sharpness.exp().to(loss.dtype) * loss).softmax(-1)

    def _logits(self, like: Tensor) -> Tensor:
        """Logits of w (J, K)."""
        return (self.spaced[:, None] + self.offset).to(like.dtype)

    def _loss(self, memory: dict[str, Tensor], like: Tensor) -> Tensor:
        """What was kept, or zeros (B, J)."""
        return memory.get("loss", like.new_zeros(len(like), len(self.spaced)))
