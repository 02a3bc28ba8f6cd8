# %% [markdown]
# # Video and carryover
#
# On video the posterior of a frame makes the prior of the next. A *carryover* says how. Every
# frame's free energy is held against that frame's own prior, so carryovers are compared in nats
# per frame. Here the video is a window that drifts over two photographs as the eye does, with a
# saccade now and then; film of your own is `DataSettings(data="video", data_path=...)`.

# %%
import tempfile
from pathlib import Path

import itervae
from itervae.data import DataSettings, load_source
from itervae.evaluation.sequences import measure_sequences
from itervae.inference import LCAUnrolled
from itervae.model import PoissonVAESettings
from itervae.plotting import spikes_figure

folder = Path(tempfile.mkdtemp())
data = load_source(DataSettings(data="drift", patch_size=10, frames=8), seed=0)
data.validation.shape  # sequences, frames, pixels

# %%
model = itervae.build_model(PoissonVAESettings(latents=96), shape=(10, 10))
options = {"updates": 250, "batch_size": 50, "carryover": "adaptive", "window": 4}
itervae.train(model, LCAUnrolled(8), data, folder / "drift", **options)
model, engine, carryover = itervae.load_sequence(folder / "drift")

# %% [markdown]
# Online, a frame at a time. The state is all that is kept, however long the film.

# %%
frames, state = data.validation[:1], None
for time, x in enumerate(frames.unbind(1)):
    found, prior, state = itervae.filter_step(model, engine, x, carryover, state)
    energy = model.free_energy(x, found.posterior, prior)
    total, rec, kl = (each.item() for each in (energy.total, energy.reconstruction, energy.kl))
    print(f"frame {time}: F {total:6.1f} = reconstruction {rec:6.1f} + KL {kl:5.1f} nats")

# %%
filtered = itervae.filter_sequence(model, engine, frames, carryover)
posterior = model.posterior(filtered.u[0])
spikes_figure(frames[0], posterior.sample(), model.decode(posterior.mean), model.shape)

# %% [markdown]
# What the past buys: the least free energy with the learned carryover against that of the same
# model without one; the error is over sequences of eight frames.

# %%
candidates = {
    "none": (model, engine, itervae.sequence.NoCarryover()),
    "adaptive": (model, engine, carryover),
}
report = measure_sequences(candidates, {"drift": data.validation[:20]}, steps=(1, 5))
for name, found in report.sequences["drift"].items():
    print(
        f"{name:9} optimum {found.optimum:.1f} nats per frame, gain {found.gain:.1f} ± {found.gain_standard_error:.1f}"
    )
