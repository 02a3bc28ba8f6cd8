"""How compiled code of any part of the package is found, kept and run.

launch      whether compiled code can be used, and on how many threads
cache       of what numba has compiled
graphs      loops on a GPU, recorded and launched as one
"""
