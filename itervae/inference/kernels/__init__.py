"""Compiled code of inference; `itervae.kernels` runs it.

descent_numba               the steps of descent on a Poisson model, and its certificate, on a CPU
descent_triton              the same on a GPU, and programs_triton, what is launched for a datum
coordinate_descent_numba    the lasso, one datum after the other
convolutional_descent_numba the lasso of maps, on a working set
"""

DESCENT = "itervae.inference.kernels.descent"
"""The kernels of descent, as `itervae.kernels.launch.run` calls them."""
