"""Compiled code, and how it is found and run: everything of numba is here, and what inference has
of Triton; everything of it is optional.

launch                      whether compiled code can be used, and on how many threads
descent_numba               the steps of descent on a Poisson model, and its certificate, on a CPU
descent_triton              the same on a GPU, launched by launch_triton
graphs                      loops on a GPU, recorded and launched as one
coordinate_descent_numba    the lasso, one datum after the other
"""
