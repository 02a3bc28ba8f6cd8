"""What the C library does with memory that is freed.

glibc gives large blocks back to the system, which has to clear their pages when they are asked for
again. The arrays of a step have the same sizes in every step, so on a CPU that is a large part of
what an elementwise operation costs.
"""

import ctypes
import sys

LARGEST = 32 << 20
"""Bytes of a block that is kept; glibc allows no more."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have glibc keep blocks of up to 32 MiB for the next ones of this process; nothing with other
    C libraries."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
