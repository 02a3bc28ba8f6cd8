"""Batches made ahead of time: the same ones, in one thread, that ends; and where data are that a
device cannot hold."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from itervae.data import DataSettings, Prefetcher, load_source, pixels
from itervae.data.patches import PatchPool, PatchSource
from itervae.data.pixels import keep_pixels
from itervae.data.source import RowSource

TIMEOUT = 10  # seconds, of what should take none


def test_values_are_those_of_the_function_in_whatever_order():
    ahead = Prefetcher(lambda index: index * index)
    order = [0, 1, 2, 3, 7, 8, 2, 2, 3, 0, 100, 101]
    assert [ahead.get(index) for index in order] == [index * index for index in order]
    ahead.close()


def test_the_next_are_made_while_one_is_used_and_no_more_than_two():
    made, third = [], threading.Event()

    def make(index):
        made.append((index, threading.current_thread()))
        if len(made) == 3:
            third.set()
        return index

    ahead = Prefetcher(make)
    assert ahead.get(5) == 5
    assert third.wait(TIMEOUT)  # nobody has asked for them
    ahead.close()  # waits for what is at work
    assert [index for index, _ in made] == [5, 6, 7]
    (thread,) = {thread for _, thread in made}
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_an_error_is_raised_where_its_value_is_asked_for():
    def make(index):
        if index == 2:
            raise ValueError(f"no {index}")
        return index

    ahead = Prefetcher(make)
    assert [ahead.get(0), ahead.get(1)] == [0, 1]
    with pytest.raises(ValueError, match="no 2"):
        ahead.get(2)
    assert ahead.get(3) == 3
    ahead.close()


def test_a_program_that_fails_ends_with_a_thread_at_work():
    code = (
        "import time\n"
        "from itervae.data import Prefetcher\n"
        "ahead = Prefetcher(lambda index: time.sleep(index / 10))\n"
        "ahead.get(0)\n"
        "raise RuntimeError\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError")


def test_memory_alone_decides_what_is_made_ahead(tmp_path, monkeypatch):
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (3, 40, 40), dtype=np.uint8))
    settings = DataSettings(data="images", data_path=tmp_path / "x.npy")
    assert not load_source(settings, 0).ahead
    monkeypatch.setattr(pixels, "MEMORY_SHARE", 0)
    assert load_source(settings, 0).ahead
    rows = torch.randn(30, 4)
    assert not RowSource("array", (4,), rows, rows[:5], 0).ahead  # there is nowhere else for them


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_data_too_large_for_a_gpu_stay_and_their_batches_go_there(tmp_path, monkeypatch):
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path))
    image = torch.randn(40, 83, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(30, 1000)
    on_gpu = keep_pixels([image], image.numel(), (), "cuda")
    assert on_gpu.values.is_cuda
    monkeypatch.setattr(pixels, "fits", lambda size, device: device.type == "cpu")
    kept = keep_pixels([image], image.numel(), (), "cuda")
    assert (kept.values.device.type, kept.file) == ("cpu", None)
    monkeypatch.setattr(pixels, "fits", lambda size, device: False)
    mapped = keep_pixels([image], image.numel(), (), "cuda")
    assert mapped.file is not None
    sources = []
    for one in (on_gpu, kept, mapped):
        pool = PatchPool(one, [(40, 83)], 4)
        sources.append(PatchSource("images", pool, pool, 0, device="cuda"))
    monkeypatch.setattr("itervae.data.source.fits", lambda size, device: False)
    sources.append(RowSource("array", (1000,), rows, rows[:5], 0, device="cuda"))
    assert [source.ahead for source in sources] == [False, True, True, True]
    for source in sources:
        expected = [source.batch(index, 200).clone() for index in range(20)]
        ahead = Prefetcher(lambda index, source=source: source.batch(index, 200))
        found = [ahead.get(index) for index in range(20)]
        ahead.close()
        for one, other in zip(found, expected, strict=True):
            assert one.device == source.device == source.validation.device
            assert torch.equal(one, other)
    for index in range(5):
        torch.testing.assert_close(sources[0].batch(index, 200), sources[1].batch(index, 200))
        assert torch.equal(sources[1].batch(index, 200), sources[2].batch(index, 200))
