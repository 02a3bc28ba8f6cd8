# %% [markdown]
# # A dictionary from photographs
#
# A Poisson VAE with a linear decoder explains a patch $x$ by spike counts $z$: $x \approx \Phi z$.
# Its atoms, the columns of $\Phi$, are learned together with the prior rate of each unit. Here
# they come from two photographs that scikit-learn brings along, on a small scale: 128 atoms of 12
# × 12 pixels in a few seconds. `./scripts/demo` learns 512 atoms of 16 × 16.

# %%
import tempfile
from pathlib import Path

import itervae
from itervae.data import DataSettings, load_source
from itervae.inference import LCAUnrolled
from itervae.model import PoissonVAESettings
from itervae.plotting import dictionary_figure, reconstructions_figure

folder = Path(tempfile.mkdtemp())  # where the runs of this page go

# %% [markdown]
# The data are patches, cut afresh from the whitened photographs for every batch; some columns of
# each photograph are held out. Any array (N, D), list or torch `Dataset` can stand in their place.

# %%
data = load_source(DataSettings(data="photos", patch_size=12), seed=0)
data.validation.shape

# %% [markdown]
# Model and engine are separate. The engine here is the LCA with ten steps: it has nothing to
# learn, and finds the rates of each patch by descent on the free energy $F = E_q\|x - \Phi
# z\|^2/2\sigma^2 + \mathrm{KL}(q \,\|\, p)$, in nats.

# %%
model = itervae.build_model(PoissonVAESettings(latents=128), shape=(12, 12))
engine = LCAUnrolled(steps=10)
summary = itervae.train(model, engine, data, folder / "photos", updates=800, batch_size=100)
summary

# %% [markdown]
# The run is a folder like any other: `itervae gap`, `itervae evaluate` and `itervae.load` read it.
# What is loaded is the best checkpoint, and asks for no gradient.

# %%
model, engine = itervae.load(folder / "photos")
found = itervae.infer(model, engine, data.validation[:1000])
found

# %%
usage = found.posterior.mean.mean(0)
dictionary_figure(model.dictionary, model.shape, usage, title="Atoms, the most used first")

# %% [markdown]
# Most rates are close to zero, and a few units carry each patch. The certificate proves how far
# each posterior can be from the best one, in nats.

# %%
print("share of zero counts:", round(found.posterior.share_zero.mean().item(), 3))
print("largest certificate:", f"{found.stats['certificate'].max().item():.2g} nats")

# %%
x = data.validation[:12]
energy = model.free_energy(x, model.posterior(found.posterior.u[:12])).total
reconstructions_figure(x, model.decode(found.posterior.mean[:12]), model.shape, captions=[f"F {f:.0f}" for f in energy])
