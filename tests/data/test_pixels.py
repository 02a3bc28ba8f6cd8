"""Pixels in a file are those in memory: whole files or none, whoever else writes them, and no image
kept decoded."""

import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from itervae.data import DataSettings, cache, images, load_source, photographs, pixels, video
from itervae.data.pixels import keep_pixels
from itervae.errors import InputError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*which becomes grey", "ignore:16-bit pictures whose", "ignore:left out"
)  # what is said is tested in test_pictures.py and test_folders.py


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Everything is too large for memory; the folder of the cache."""
    monkeypatch.setattr(pixels, "MEMORY_SHARE", 0)
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/pixels"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures of several sizes and one without structure, stacks, and a video."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "pictures").mkdir()
    for number, height in enumerate((40, 40, 50, 33, 40, 47)):
        Image.fromarray(noise(height, 44, 3, seed=number)).save(folder / f"pictures/{number}.png")
    Image.fromarray(np.full((40, 44), 9, np.uint8)).save(folder / "pictures/flat.png")
    np.save(folder / "one.npy", noise(40, 200))
    moving = np.stack([noise(40, 120)[:, t : t + 48] for t in range(70)])  # two chunks of frames
    np.savez(folder / "video.npz", a=moving, b=moving[:9, ::-1], c=moving[::-1])
    return folder


GIVEN = {
    "photos": {},
    "pictures": {"data": "images", "data_path": "pictures"},
    "raw pictures": {"data": "images", "data_path": "pictures", "whiten": False},
    "even pictures": {"data": "images", "data_path": "pictures", "local_contrast": True},
    "other pictures": {"data": "images", "data_path": "pictures", "val_share": 0.4},
    "one": {"data": "images", "data_path": "one.npy"},
    "one of small patches": {"data": "images", "data_path": "one.npy", "patch_size": 8},
    "one with a narrow band": {"data": "images", "data_path": "one.npy", "val_share": 0.1},
    "drift": {"data": "drift", "frames": 3, "patch_size": 8},
    "video": {"data": "video", "data_path": "video.npz", "frames": 5, "patch_size": 8},
    "other video": {"data": "video", "data_path": "video.npz", "frames": 5, "patch_size": 8, "val_sequences": "c"},
    "long video": {"data": "video", "data_path": "video.npz", "frames": 10, "patch_size": 8},
}


def load(folder, name):
    given = dict(GIVEN[name])
    if "data_path" in given:
        given["data_path"] = folder / given["data_path"]
    return load_source(DataSettings(**given), 0)


@pytest.mark.filterwarnings("ignore:1 constant images")
def test_a_source_is_the_same_from_the_cache_and_from_memory(folder, cached, monkeypatch):
    """Of all settings in one cache: none takes the pixels of another."""
    mapped = {name: load(folder, name) for name in GIVEN}
    for part in (photographs, video):
        monkeypatch.setattr(part, "filter_image" if part is video else "_prepared", None)
    again = {name: load(folder, name) for name in GIVEN if name != "drift"}  # nothing is prepared a second time
    monkeypatch.undo()
    monkeypatch.setenv("ITERVAE_CACHE", str(cached.parent))
    for name in GIVEN:
        kept = load(folder, name)
        assert kept.pool.pixels.file is None
        for source in (mapped[name], again.get(name, mapped[name])):
            assert source.pool.pixels.file is not None
            assert torch.equal(source.batch(3, 100), kept.batch(3, 100))
            assert torch.equal(source.validation, kept.validation)
            assert source.describe() == kept.describe()
        if "video" in name:
            for index in range(4):
                frames, begins = again[name].windows(index, 30, 2, stream=True)
                expected = kept.windows(index, 30, 2, stream=True)
                assert torch.equal(frames, expected[0])
                assert torch.equal(begins, expected[1])
    assert all(file.suffix == ".f32" for file in cached.iterdir())


def test_the_size_in_the_cache_is_said(folder, cached, capsys):
    load(folder, "one")
    said = capsys.readouterr().err.splitlines()
    sizes = sorted(file.stat().st_size for file in cached.iterdir())
    assert sizes == [4 * 40 * 40 + 8, 4 * 40 * 160 + 8]
    assert said == [f"0.0 MB of pixels are read from the cache {cached}"] * 2


@pytest.mark.filterwarnings("ignore:1 constant images")
def test_pictures_are_read_twice_and_never_kept(folder, cached, monkeypatch):
    read, alive, names = images.read_picture, [], []

    def watched(file, page):
        assert sum(ref() is not None for ref in alive) <= 2  # the one before may not have been let go yet
        picture = read(file, page)
        alive.append(weakref.ref(picture))
        names.append(file.name)
        return picture

    monkeypatch.setattr(images, "read_picture", watched)
    monkeypatch.setattr(photographs, "CHUNK_PIXELS", 1)
    load(folder, "pictures")
    every = [f"{number}.png" for number in range(6)]
    assert sorted(names) == sorted([*every, *every, "flat.png"])
    assert not any(ref() is not None for ref in alive)
    names.clear()
    load(folder, "pictures")
    assert sorted(names) == [*every, "flat.png"]  # to know that they are the same


def test_pictures_that_change_meanwhile_are_refused(folder, tmp_path):
    for number in range(3):
        Image.fromarray(noise(40, 44, seed=number)).save(tmp_path / f"{number}.png")
    found = images.read_images(tmp_path, None, 16)
    Image.fromarray(noise(40, 44, seed=9)).save(tmp_path / "1.png")
    (tmp_path / "2.png").unlink()
    assert found.grey(0).shape == (40, 44)
    with pytest.raises(InputError, match=r"1\.png changed since it was first read"):
        found.grey(1)
    with pytest.raises(InputError, match=r"2\.png could be read at first and no longer"):
        found.grey(2)


def parts(count=8, size=1000):
    for number in range(count):
        yield torch.full((size,), float(number))


def test_a_killed_writer_leaves_no_pixels_and_the_next_one_works(cached):
    code = (
        "import os, torch\n"
        "from itervae.data import pixels\n"
        "pixels.MEMORY_SHARE = 0\n"
        "def parts():\n"
        "    for number in range(8):\n"
        "        if number == 6: os.kill(os.getpid(), 9)\n"
        "        yield torch.full((100_000,), float(number))\n"
        "pixels.keep_pixels(parts(), 800_000, ('killed',))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -9
    (left,) = cached.iterdir()
    assert left.suffix == ".tmp"
    assert left.stat().st_size > 0
    kept = keep_pixels(parts(size=100_000), 800_000, ("killed",))
    assert torch.equal(kept.values, torch.cat(list(parts(size=100_000))))
    assert kept.mean_square == pytest.approx(sum(n * n for n in range(8)) / 8)
    assert left.exists()  # it could belong to a process that is still at work
    os.utime(left, (time.time() - 4000,) * 2)
    keep_pixels(parts(), 8000, ("other",))
    assert [file.suffix for file in cached.iterdir()] == [".f32"] * 2


def test_two_writers_of_the_same_pixels_do_no_harm(cached):
    both, found = threading.Barrier(2), []

    def together():
        for number, part in enumerate(parts()):
            if number in (1, 6):
                both.wait(10)  # each is in the midst of its file
            yield part

    def write():
        found.append(keep_pixels(together(), 8000, ("same",)))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(found) == 2
    assert all(torch.equal(one.values, torch.cat(list(parts()))) for one in found)
    assert [file.suffix for file in cached.iterdir()] == [".f32"]
    assert torch.equal(keep_pixels(iter(()), 8000, ("same",)).values, found[0].values)


def test_a_file_cut_short_is_made_again(cached):
    expected = keep_pixels(parts(), 8000, ("cut",)).values.clone()
    (file,) = cached.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert torch.equal(keep_pixels(parts(), 8000, ("cut",)).values, expected)


def test_a_full_disk_and_an_unwritable_cache_say_what_to_do(cached, monkeypatch, tmp_path):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left.*free some space.*ITERVAE_CACHE"):
        keep_pixels(parts(), 8000, ("full",))
    assert list(cached.iterdir()) == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="could not write to the cache"):
        keep_pixels(parts(), 8000, ("nowhere",))


def test_what_fits_is_a_share_of_what_is_free(monkeypatch, tmp_path):
    cpu = torch.device("cpu")
    assert pixels.fits(1, cpu)
    assert not pixels.fits(10**15, cpu)
    (tmp_path / "limit").write_text("4000\n")
    monkeypatch.setattr("itervae.memory._CGROUP_LIMIT", tmp_path / "limit")
    monkeypatch.setattr(pixels, "MEMORY_SHARE", 0.25)
    assert pixels.fits(1000, cpu)
    assert not pixels.fits(1001, cpu)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two processes on this machine
    assert pixels.fits(500, cpu)
    assert not pixels.fits(501, cpu)
