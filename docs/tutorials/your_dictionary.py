# %% [markdown]
# # LCA on a dictionary of yours
#
# Any matrix $\Phi$ of D × K numbers is a model. As sparse coding it stands for the energy $E(a) =
# \tfrac12\|x - \Phi a\|^2 + \theta\sum_k |a_k|$, the lasso, whose least value is proved for each
# datum. As a Poisson VAE it stands for a free energy in nats. Here the dictionary comes from
# scikit-learn.

# %%
import tempfile
from pathlib import Path

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode

import itervae
from itervae.data import DataSettings, load_source
from itervae.inference import LCAUnrolled, Optimal
from itervae.plotting import dictionary_figure

folder = Path(tempfile.mkdtemp())
patches = load_source(DataSettings(data="photos", patch_size=8), seed=0).validation.numpy().astype(np.float64)
learned = MiniBatchDictionaryLearning(96, alpha=0.5, max_iter=60, batch_size=64, random_state=0).fit(patches[:1500])

# %% [markdown]
# scikit-learn keeps an atom a row, here it is a column. What the file was taken for is said, never
# guessed: atoms are taken as they are, of whatever norm.

# %%
np.save(folder / "phi.npy", learned.components_.T)
model = itervae.load_dictionary(folder / "phi.npy", threshold=0.5, signed=True)
dictionary_figure(model.dictionary, model.shape, title="A dictionary of scikit-learn")

# %% [markdown]
# The best code of each datum, with its certificate, and scikit-learn's own solver beside it:

# %%
x = patches[1500:1700]
best = itervae.infer(model, Optimal(), x)
codes = best.posterior.mean.numpy()
theirs = sparse_encode(x, learned.components_, algorithm="lasso_lars", alpha=0.5)
print("largest difference of a coefficient:", f"{np.abs(codes - theirs).max():.1g}")
print("largest certificate:", f"{best.stats['certificate'].max().item():.1g} (squared units of the data)")

# %% [markdown]
# The LCA comes close in a few steps; its certificate says how close, without knowing the best
# code:

# %%
optimum = model.free_energy(x, best.posterior).total
for steps in (5, 20, 80):
    found = itervae.infer(model, LCAUnrolled(), x, steps=steps)
    gap = model.free_energy(x, found.posterior).total - optimum
    bound = found.stats["certificate"]
    print(f"{steps:3} steps: E − E* {gap.mean():.2g} in the mean, certificate {bound.mean():.2g}")
    assert (gap <= bound + 1e-9).all()

# %% [markdown]
# From the shell: `itervae infer phi.npy --model sparse-coding --threshold 0.5 --signed --input
# x.npy --output codes.npz` and `itervae gap phi.npy --model sparse-coding --threshold 0.5 --signed
# --data array --data-path x.npy`.
