"""Freed memory is kept: no page is faulted in twice."""

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

usual = faults()
keep_freed_memory()
faults()
print(usual, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_pages_are_kept():
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    usual, kept = map(int, answer.stdout.split())
    assert kept < 500  # of the 5000 of one round
    assert kept < usual / 10
