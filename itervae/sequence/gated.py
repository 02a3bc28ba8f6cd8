"""A recurrent cell that watches how the posteriors move, and sets how much of the past each unit
keeps.

The cell is a gated recurrent unit (Cho et al. 2014, "Learning phrase representations"). It sees
each posterior through few numbers, so that what it learns on some sequences holds on others, and
the rates themselves through the gates alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_whole
from itervae.distributions import Family, poisson_kl
from itervae.sequence.base import START_WEIGHT, Carryover
from itervae.sequence.state import FilterState

START_SPREAD = 0.01
"""Standard deviation of the gates' weights before training."""


class Gated(Carryover):
    """A mixture of rates, the weights of which a recurrent cell chooses:

        r_t = (1 − w_t) e^{g_t} r + w_t λ_{t−1},      (logit w_t, g_t) = b + W h_{t−1}
        h_t = GRU(h_{t−1}, log(1 + KL(q_t ‖ r)), log(1 + KL(q_t ‖ (r + λ_{t−1})/2)))

    with weights w_t in (0, 1) and gains e^{g_t} for each unit: rates, not negative by construction.
    λ_{t−1} is r where there is no past. It starts close to `mixing`.

    Args:
        size: K.
        hidden: width H of the cell.
    """

    poisson = True
    lr = 0.03

    def __init__(self, size: int, hidden: int = 64) -> None:
        super().__init__(size)
        check_whole("hidden", hidden, 1)
        self.cell = nn.GRUCell(2, hidden)
        self.gates = nn.Linear(hidden, 2 * size)
        nn.init.normal_(self.gates.weight, std=START_SPREAD)
        logit = torch.full((size,), START_WEIGHT).logit()
        with torch.no_grad():
            self.gates.bias.copy_(torch.cat([logit, torch.zeros(size)]))

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        logit, gain = map(self.everywhere, self.gates(self._hidden(memory, past)).to(past.dtype).chunk(2, -1))
        return torch.logaddexp(functional.logsigmoid(-logit) + gain + static, functional.logsigmoid(logit) + past)

    def remember(self, static: Family, state: FilterState | None, posterior: Tensor) -> dict[str, Tensor]:
        prior = static.u.to(posterior.dtype)
        past = prior if state is None else torch.where((state.age > 0)[:, None], state.u, prior)
        halfway = torch.logaddexp(past, prior) - math.log(2)
        surprise = torch.stack([poisson_kl(posterior, each).sum(-1).log1p() for each in (prior, halfway)], -1)
        hidden = self._hidden({} if state is None else state.memory, posterior)
        return {"hidden": self.cell(surprise.to(hidden.dtype), hidden)}

    def _hidden(self, memory: dict[str, Tensor], like: Tensor) -> Tensor:
        """What was kept, or zeros (B, H), in the precision of the cell."""
        weight = self.gates.weight
        return memory.get("hidden", like.new_zeros(len(like), weight.shape[1])).to(weight.dtype)
