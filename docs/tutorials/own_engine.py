# %% [markdown]
# # An engine of your own
#
# An engine says where inference begins (`init`) and what a step is (`step`). The loop, the
# gradient through it, the record of every step and the checks are there already. `Descent` adds
# what makes steps safe: with it an engine is a rule for the next proposal, and a proposal that
# would raise the free energy is taken back.

# %%
from dataclasses import dataclass

import torch
from torch import Tensor

import itervae
from itervae.evaluation import amortization_gap
from itervae.inference import Descent, FISTAUnrolled, LCAUnrolled, LinearEnergy, Point, State
from itervae.model import PoissonVAESettings
from itervae.plotting import Trace, gap_steps_figure


@dataclass
class RelaxedLCASettings:
    steps: int = 20
    """Number of inference steps."""
    share: float = 0.8
    """Share of each step that is taken."""


class RelaxedLCA(Descent):
    """Relaxed steps of the LCA: a share of each, without momentum."""

    Settings = RelaxedLCASettings

    def __init__(self, steps: int = RelaxedLCASettings.steps, share: float = RelaxedLCASettings.share):
        super().__init__(steps)
        self.share = share

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor):
        point = state.point  # the energy where inference stands: value, mean, gradients
        u = state.u + self.share * energy.flow_step(point, state.memory["damping"])
        return u, point.mean, point.data_gradient

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        return {}  # nothing to repeat in the next step


# %% [markdown]
# It runs on every model that has what it needs, and its gap is measured like any other's:

# %%
torch.manual_seed(0)
model = itervae.build_model(
    PoissonVAESettings(latents=64, unit_norm=True, observation_variance=0.1), shape=(6, 6)
).requires_grad_(False)
x = model.decode(torch.poisson(torch.full((300, 64), 0.1))) + 0.3 * torch.randn(300, 36)
engines = {
    "relaxed, a share of 0.5": (RelaxedLCA(share=0.5), 30),
    "relaxed, a share of 0.9": (RelaxedLCA(share=0.9), 30),
    "LCA, with momentum": (LCAUnrolled(), 30),
    "FISTA": (FISTAUnrolled(), 30),
}
report = amortization_gap(model, engines, x, trace=True)
for name, gap in report.engines.items():
    print(f"{name:24} gap after 30 steps: {gap.gap_mean:.2g} nats in the mean, {gap.gap_max:.2g} at most")

# %%
found = {name: gap.trace for name, gap in report.engines.items()}
traces = {name: Trace(range(len(t.mean)), t.mean, t.p10, t.p90) for name, t in found.items()}
gap_steps_figure(traces, floor=1e-8)

# %% [markdown]
# On the command line the class is named by its module: `itervae train --inference
# my_module:RelaxedLCA:50`, and a run that has it is loaded with `itervae.load("runs/my-run",
# own=[RelaxedLCA])`. How an engine becomes part of the package, and how a family, a carryover or a
# kind of data is added, is in [Extending](../extending.md).
