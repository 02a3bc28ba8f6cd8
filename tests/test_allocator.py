"""Freed memory is kept: no page is faulted in twice."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from itervae.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(1_000_000) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = min(faults() for _ in range(5))  # other threads have faults of their own
keep_freed_memory()
print(usual, min(faults() for _ in range(5)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_kept():
    giving_back = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"}  # as glibc does anyway, but not in every process
    command = [sys.executable, "-c", SCRIPT]
    answer = subprocess.run(command, env=giving_back, capture_output=True, text=True, check=True)
    usual, kept = map(int, answer.stdout.split())
    assert usual > 10_000  # 5000 pages of 4 KiB in each of 20 turns
    assert kept < 500
