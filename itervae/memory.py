"""The memory of this machine that a process may count on."""

import os
from contextlib import suppress
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is none


def free_memory() -> float:
    """Bytes of the machine that this process may count on."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # another system than Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        free = min(free, int(_CGROUP_LIMIT.read_text(encoding="utf-8")))
    return free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
