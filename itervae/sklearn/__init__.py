"""scikit-learn estimators: `PoissonVAE`, `GaussianVAE` and `SparseCoding`, with linear decoders.

They train as `itervae train` does, in memory and on the CPU, and infer with any engine; arrays go
in and out. Data are taken as they are: centre or whiten them first, in a pipeline, say. What was
learned is `model_` and `engine_`, for everything else that itervae has.
"""

from itervae.sklearn.sparse_coding import SparseCoding
from itervae.sklearn.vae import GaussianVAE, PoissonVAE

__all__ = ["GaussianVAE", "PoissonVAE", "SparseCoding"]
