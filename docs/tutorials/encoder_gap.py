# %% [markdown]
# # The gap of an encoder
#
# One pass of an encoder gives a posterior at once, and pays for it: its free energy lies above the
# least one, $F^*$. The difference is the amortization gap. For a linear decoder $F^*$ is not
# estimated but proved, so the gap is exact to the certificate. Here: a linear encoder, trained on
# a dictionary that is kept as it is, and engines with steps beside it.

# %%
import tempfile
from pathlib import Path

import itervae
from itervae.data import DataSettings, load_source
from itervae.evaluation import amortization_gap
from itervae.inference import FISTAUnrolled, LCAUnrolled
from itervae.model import PoissonVAESettings
from itervae.plotting import gap_figure

folder = Path(tempfile.mkdtemp())
data = load_source(DataSettings(data="photos", patch_size=8), seed=0)

# %% [markdown]
# First a dictionary, learned with the LCA.

# %%
model = itervae.build_model(PoissonVAESettings(latents=96), shape=(8, 8))
itervae.train(model, LCAUnrolled(10), data, folder / "dictionary", updates=600, batch_size=100)

# %% [markdown]
# Then an encoder for it. The parameters of the model ask for no gradient, so it is kept as it is.

# %%
model.requires_grad_(False)
encoder = itervae.build_engine("amortized", model, encoder="linear")
itervae.train(model, encoder, data, folder / "encoder", updates=1500, batch_size=100)

# %% [markdown]
# Every engine on the same model and the same held-out patches:

# %%
engines = {
    "encoder": (encoder, None),
    "FISTA, 3 steps": (FISTAUnrolled(), 3),
    "LCA, 5 steps": (LCAUnrolled(), 5),
    "LCA, 20 steps": (LCAUnrolled(), 20),
}
report = amortization_gap(model, engines, data.validation[:500])
for name, gap in report.engines.items():
    print(f"{name:15} mean {gap.gap_mean:8.2g} ± {gap.gap_se:.1g}   largest {gap.gap_max:8.2g} nats")
print(f"F* is proved to {report.optimal.certificate_max:.1g} nats for every patch")

# %% [markdown]
# The tail matters more than the mean: the share of patches whose gap is larger than a value.

# %%
optimum = report.arrays["free_energy_optimal"]
gap_figure({name: report.arrays[f"free_energy {name}"] - optimum for name in engines}, floor=1e-6)

# %% [markdown]
# The encoder was trained for seconds, so nothing is concluded here about encoders; `docs/results`
# has trainings of ten minutes and more, and the learned engines (`lista`, `recurrent`,
# `semi-amortized`) that close most of its gap in a few steps. From the shell the same is `itervae
# gap RUN --engines lca-unrolled:5 --figure gap.png`.
