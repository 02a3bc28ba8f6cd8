"""Parts of a batch: what processes that share one cut for themselves, is together the whole."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from itervae.data import DataSettings, load_source, load_stills
from itervae.data.patches import PatchPool
from itervae.data.pixels import Pixels
from itervae.data.source import RowSource
from itervae.data.tubes import Streams, TubePool

SIZE = 22


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of which a half is constant, rows, and a video of two clips; of one, half of each
    frame is constant."""
    folder = tmp_path_factory.mktemp("data")
    images = noise(3, 48, 64)
    images[:, :, :32] = 90
    np.save(folder / "images.npy", images)
    np.save(folder / "rows.npy", np.random.default_rng(0).standard_normal((30, 5)))
    moving = np.stack([noise(40, 60)[:, t : t + 48] for t in range(12)])
    np.savez(folder / "video.npz", a=moving, b=moving[:, ::-1], c=moving[::-1])
    return folder


SOURCES = {
    "photos": {},
    "images": {"data_path": "images.npy", "whiten": False, "patch_size": 8},
    "array": {"data_path": "rows.npy"},
    "drift": {"frames": 4, "patch_size": 8},
    "video": {"data_path": "video.npz", "frames": 5, "patch_size": 8},
}


def load(folder, name, stills=False):
    given = dict(SOURCES[name])
    if "data_path" in given:
        given["data_path"] = folder / given["data_path"]
    return (load_stills if stills else load_source)(DataSettings(data=name, **given), 3)


def slices(count):
    """Of unequal lengths where `count` does not divide the size."""
    ends = np.linspace(0, SIZE, count + 1).astype(int)
    return [slice(int(start), int(end)) for start, end in pairwise(ends)]


@pytest.fixture
def small_photographs(monkeypatch):
    from sklearn import datasets

    pictures = [image[:60, :120] for image in datasets.load_sample_images().images]
    monkeypatch.setattr(datasets, "load_sample_images", lambda: SimpleNamespace(images=pictures))


@pytest.mark.parametrize("count", [2, 4, SIZE])
@pytest.mark.parametrize(("name", "stills"), [*((name, False) for name in SOURCES), ("video", True), ("drift", True)])
def test_the_parts_of_a_batch_are_the_batch(folder, monkeypatch, small_photographs, name, stills, count):
    monkeypatch.setenv("ITERVAE_CACHE", str(folder / "cache"))
    whole, shares = load(folder, name, stills), [load(folder, name, stills) for _ in range(count)]
    for index in (2, 0, 1):  # of rows, over the end of an epoch
        parts = [source.batch(index, SIZE, rows) for source, rows in zip(shares, slices(count), strict=True)]
        assert torch.equal(torch.cat(parts), whole.batch(index, SIZE))
    if name == "images":
        before = [source.describe()["dropped_patches"] for source in (load(folder, name), whole, *shares)]
        dropped = [number - before[0] for number in before[1:]]
        assert dropped[0] == sum(dropped[1:]) > SIZE  # of three batches; half of all places have no variance
        assert max(dropped[1:]) < dropped[0]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("name", "stream"), [("video", False), ("video", True), ("drift", False)])
def test_the_parts_of_windows_are_the_windows(folder, monkeypatch, small_photographs, name, stream, count):
    monkeypatch.setenv("ITERVAE_CACHE", str(folder / "cache"))
    whole, shares = load(folder, name), [load(folder, name) for _ in range(count)]
    begun = []
    for index in range(6):
        parts = [s.windows(index, SIZE, 2, stream, rows) for s, rows in zip(shares, slices(count), strict=True)]
        frames, begins = (torch.cat(part) for part in zip(*parts, strict=True))
        expected = whole.windows(index, SIZE, 2, stream)
        assert torch.equal(frames, expected[0])
        assert torch.equal(begins, expected[1])
        begun.append(begins)
        # one source asked for other rows gives those
        assert torch.equal(shares[0].windows(index, SIZE, 2, stream, slice(7, 9))[0], frames[7:9])
    assert 0 < torch.stack(begun[1:]).sum() < 5 * SIZE


def test_a_row_drawn_again_does_not_depend_on_its_neighbours():
    """Half of the places are flat; which rows are asked for changes none of them."""
    image = torch.randn(30, 60, generator=torch.Generator().manual_seed(0))
    image[:, :30] = 0.7
    patches = PatchPool(Pixels(image.flatten(), 1.0), [(30, 60)], 4)
    tubes = TubePool(Pixels(image.flatten().repeat(5), 1.0), [(5, 30, 60)], 3, 4)
    for pool in (patches, tubes):
        expected, dropped = pool.sample(np.random.default_rng(1), 50)
        assert dropped > 20
        single = [pool.sample(np.random.default_rng(1), 50, slice(row, row + 1)) for row in range(50)]
        assert torch.equal(torch.cat([row for row, _ in single]), expected)
        assert sum(again for _, again in single) == dropped
        for rows in (slice(1, None, 3), slice(40, 99), slice(5, 5)):
            assert torch.equal(pool.sample(np.random.default_rng(1), 50, rows)[0], expected[rows])


def test_only_the_rows_asked_for_are_read(monkeypatch):
    image = torch.randn(30, 60, generator=torch.Generator().manual_seed(0))
    pool = PatchPool(Pixels(image.flatten(), 1.0), [(30, 60)], 4)
    cut, asked = pool.cut, []
    monkeypatch.setattr(pool, "cut", lambda places: (asked.append(len(places)), cut(places))[1])
    pool.sample(np.random.default_rng(0), 100, slice(10, 30))
    assert asked == [20]
    tubes = TubePool(Pixels(image.flatten().repeat(20), 1.0), [(20, 30, 60)], 3, 4)
    window = tubes.window
    monkeypatch.setattr(tubes, "window", lambda scene, *given: (asked.append(len(scene)), window(scene, *given))[1])
    Streams(tubes, 0, 50, 2).at(7, slice(3, 8))
    assert asked == [20, 5]
    rows = torch.arange(10.0)[:, None]
    assert RowSource("array", (1,), rows, rows[:1], 0).batch(1, 6, slice(0, 2)).shape == (2, 1)
