"""A prior that follows the contrast of a sequence, and nothing of which units fired: the baseline
for what a carryover gains by the content of the past.

The level is the mean of the conjugate Gamma posterior of a gain of Poisson rates, with forgetting.
"""

import torch
from torch import Tensor, nn

from itervae.distributions import Family
from itervae.sequence.base import Carryover
from itervae.sequence.state import FilterState

START_LEVEL_DECAY, START_POWER = 0.7, 0.9
"""κ and a before training; n is 1."""


class Level(Carryover):
    """The static rates times one number for each sequence, which compares the rates so far with the
    static ones, n frames of which are taken for seen:

        log r_t = log r + a log s_t
        s_t = (n + Σ_{τ<t} κ^{t−1−τ} m_τ) / (n + Σ_{τ<t} κ^{t−1−τ}),      m_τ = Σ_k λ_τk / Σ_k r_k

    κ and a in (0, 1) and n > 0 are learned. Since a is below 1, the level of a sequence on which
    the data say nothing goes back to 1. On maps each of them has a level of its own, the sums over
    its places in place of those over k.

    Args:
        size: K, of maps.
    """

    poisson = True
    lr = 0.1

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.logit_power = nn.Parameter(torch.tensor(START_POWER).logit())
        self.logit_decay = nn.Parameter(torch.tensor(START_LEVEL_DECAY).logit())
        self.log_seen = nn.Parameter(torch.zeros(()))

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        seen = kept_seen(memory, past, self._levels)
        level = self.logit_power.sigmoid().to(past.dtype) * log_level(self.log_seen, seen)
        return (static + self.everywhere(level)).expand_as(past)

    def remember(self, static: Family, state: FilterState | None, posterior: Tensor) -> dict[str, Tensor]:
        seen = kept_seen({} if state is None else state.memory, posterior, self._levels)
        return {"seen": seen_after(self.logit_decay, seen, static.u, posterior, self._levels)}

    @property
    def _levels(self) -> int:
        """How many levels there are."""
        return self.size if self.places and self.size is not None else 1


def kept_seen(memory: dict[str, Tensor], like: Tensor, levels: int = 1) -> Tensor:
    """The two sums of each level, one after the other (B, 2L), that were kept, or zeros."""
    return memory.get("seen", like.new_zeros(len(like), 2 * levels))


def seen_after(logit_decay: Tensor, seen: Tensor, static: Tensor, posterior: Tensor, levels: int = 1) -> Tensor:
    """Σ κ^{t−1−τ} m_τ and Σ κ^{t−1−τ} (B, 2L) with one more frame, of log-rates `posterior`
    (B, K)."""
    rate, own = posterior.exp(), static.to(posterior.dtype).exp()
    level = rate.view(len(rate), levels, -1).sum(2) / own.view(levels, -1).sum(1)
    return logit_decay.sigmoid().to(seen.dtype) * seen + torch.cat([level, torch.ones_like(level)], 1)


def log_level(log_seen: Tensor, seen: Tensor) -> Tensor:
    """log s_t (B, L), from the sums of `seen_after` and the logarithm of n."""
    level, frames = (log_seen.exp().to(seen.dtype) + seen).chunk(2, -1)
    return level.log() - frames.log()
