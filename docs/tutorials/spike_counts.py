# %% [markdown]
# # Spike counts
#
# In a Poisson VAE the *latents* are counts: each unit fires z spikes, z ~ Poisson(λ). The data
# need not be. This page looks at the counts themselves: how they are drawn, how a gradient goes
# through them, and what they cost.

# %%
import torch

import itervae
from itervae.distributions import RelaxedPoisson
from itervae.inference import Optimal, SpikingLCA
from itervae.model import PoissonVAESettings

# %% [markdown]
# A sample at temperature 0 is an integer count. At a positive temperature it is relaxed, so that a
# gradient with respect to the rates goes through it; `eat` (events at arrival times) is unbiased
# in the mean in the limit of temperature 0.

# %%
torch.manual_seed(0)
q = RelaxedPoisson(torch.log(torch.tensor([0.1, 1.0, 5.0])), temperature=0.1)
print("integer:", q.sample((4,)).tolist())
print("relaxed:", q.rsample((1,)).tolist())

# %% [markdown]
# The KL of two Poisson rates has a closed form, λ log(λ/r) − λ + r: silence at a silent prior
# costs nothing, a spike that the prior did not expect costs log(λ/r). It is the metabolic cost of
# the code.

# %%
prior = RelaxedPoisson(torch.log(torch.tensor(0.1)))
for rate in (0.0 + 1e-6, 0.1, 1.0, 5.0):
    kl = torch.distributions.kl_divergence(RelaxedPoisson(torch.log(torch.tensor(rate))), prior)
    print(f"rate {rate:4.1f} against a prior of 0.1: {kl.item():6.3f} nats")

# %% [markdown]
# The iterative P-VAE (`SpikingLCA`) infers with spikes alone: at each step counts are drawn, and
# drive the potentials. Its answer hovers about the best posterior, which is proved:

# %%
model = itervae.build_model(
    PoissonVAESettings(latents=64, unit_norm=True, observation_variance=0.1), shape=(6, 6)
).requires_grad_(False)
truth = torch.poisson(torch.full((200, 64), 0.15))
x = model.decode(truth) + 0.3 * torch.randn(200, 36)
best = itervae.infer(model, Optimal(), x)
least = model.free_energy(x, best.posterior).total
for steps in (5, 20, 80):
    found = itervae.infer(model, SpikingLCA(), x, steps=steps, generator=torch.Generator().manual_seed(0))
    gap = (model.free_energy(x, found.posterior).total - least).mean()
    print(f"{steps:3} steps of spikes: {gap:6.2f} nats above the least free energy")

# %%
counts = best.posterior.sample()
silent = (counts == 0).float().mean().item()
drawn = truth.sum(1).mean()
print(f"{counts.sum(1).mean():.1f} spikes per datum where {drawn:.1f} were drawn; {100 * silent:.0f}% of units silent")
best
