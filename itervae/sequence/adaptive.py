"""A prior that follows, datum by datum, how well the past has predicted and how high the rates are.

Exponentially weighted experts: Vovk (1990), "Aggregating strategies"; with discounted losses,
Cesa-Bianchi & Lugosi (2006), "Prediction, learning, and games", section 2.11. The level is the mean
of the conjugate Gamma posterior.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_whole
from itervae.distributions import Family, poisson_kl
from itervae.sequence.base import Carryover
from itervae.sequence.level import START_LEVEL_DECAY, kept_seen, log_level, seen_after
from itervae.sequence.state import FilterState

SMALLEST, LARGEST = 0.02, 0.9
"""Weights of the past of the first and of the last expert, before the units' offsets."""
START_DECAY, START_SHARPNESS = 0.5, 0.25
"""ρ and η before training; the level starts as that of `level`."""


class Adaptive(Carryover):
    """Experts with fixed weights of the past, believed by how they did so far.

    Expert j predicts, with w_jk = σ(a_j + b_k) for a_j evenly spaced,

        r_t^{(j)} = (1 − w_j) s_t r + w_j λ_{t−1}

    and after frame t has lost

        l_j ← ρ l_j + KL(q_t ‖ Pois(r_t^{(j)})),      less the smallest of them

    The next prior is their mixture r_t = Σ_j π_j r_t^{(j)}, π_j ∝ exp(p_j − η l_j). The level s_t
    compares the rates so far with the static ones, n frames of which are taken for seen:

        s_t = (n + Σ_{τ<t} κ^{t−1−τ} m_τ) / (n + Σ_{τ<t} κ^{t−1−τ}),      m_τ = Σ_k λ_τk / Σ_k r_k

    The offsets b_k of the units, the first beliefs p_j, the decays ρ and κ in (0, 1), and the
    positive η and n are learned.

    Args:
        size: K.
        experts: how many, J.
        level: whether there is a level; s_t = 1 if not.
    """

    poisson = True
    lr = 0.05
    spaced: Tensor

    def __init__(self, size: int, experts: int = 8, level: bool = True) -> None:
        super().__init__(size)
        check_whole("experts", experts, 2)
        smallest, largest = torch.tensor([SMALLEST, LARGEST]).logit().tolist()
        self.register_buffer("spaced", torch.linspace(smallest, largest, experts), persistent=False)  # a
        self.offset = nn.Parameter(torch.zeros(size))  # b
        self.belief = nn.Parameter(torch.zeros(experts))  # p
        self.logit_decay = nn.Parameter(torch.tensor(START_DECAY).logit())
        self.log_sharpness = nn.Parameter(torch.tensor(START_SHARPNESS).log())
        self.logit_level_decay = nn.Parameter(torch.tensor(START_LEVEL_DECAY).logit()) if level else None
        self.log_seen = nn.Parameter(torch.zeros(())) if level else None

    def weight(self, memory: dict[str, Tensor]) -> Tensor:
        """Σ_j π_j w_j, the weight of the past for each unit (B, K)."""
        return self._beliefs(memory["loss"]) @ self._logits(memory["loss"]).sigmoid()

    def level(self, memory: dict[str, Tensor]) -> Tensor:
        """s_t (B,)."""
        return self._log_level(memory, memory["loss"])[:, 0].exp()

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        beliefs, logits = self._beliefs(self._loss(memory, past)), self._logits(past)
        kept, carried = beliefs @ (-logits).sigmoid(), beliefs @ logits.sigmoid()
        return torch.logaddexp(kept.log() + static + self._log_level(memory, past), carried.log() + past)

    def remember(self, static: Family, state: FilterState | None, posterior: Tensor) -> dict[str, Tensor]:
        prior = static.u.to(posterior.dtype)
        memory = {} if state is None else state.memory
        loss = self._loss(memory, posterior)
        if state is not None:
            logits, level = self._logits(posterior), self._log_level(memory, posterior)
            kept = functional.logsigmoid(-logits) + (prior + level)[:, None]
            experts = torch.logaddexp(kept, functional.logsigmoid(logits) + state.u[:, None])  # (B, J, K)
            loss = self.logit_decay.sigmoid().to(loss.dtype) * loss + poisson_kl(posterior[:, None], experts).sum(-1)
            loss = torch.where((state.age > 0)[:, None], loss - loss.amin(-1, keepdim=True), 0)
        if self.logit_level_decay is None:
            return {"loss": loss}
        return {
            "loss": loss,
            "seen": seen_after(self.logit_level_decay, kept_seen(memory, posterior), prior, posterior),
        }

    def _beliefs(self, loss: Tensor) -> Tensor:
        """π (B, J)."""
        return (self.belief.to(loss.dtype) - self.log_sharpness.exp().to(loss.dtype) * loss).softmax(-1)

    def _logits(self, like: Tensor) -> Tensor:
        """Logits of w (J, K)."""
        return self.everywhere(self.spaced[:, None] + self.offset).to(like.dtype)

    def _log_level(self, memory: dict[str, Tensor], like: Tensor) -> Tensor:
        """log s (B, 1)."""
        if self.log_seen is None:
            return like.new_zeros(len(like), 1)
        return log_level(self.log_seen, kept_seen(memory, like))

    def _loss(self, memory: dict[str, Tensor], like: Tensor) -> Tensor:
        """The losses (B, J) that were kept, or zeros."""
        return memory.get("loss", like.new_zeros(len(like), len(self.spaced)))
