"""Arrays in several files: the same rows as one file, and shards that do not fit are refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from itervae.data import DataSettings, Preparation, load_source, source
from itervae.data.rows import Rows
from itervae.data.shards import read_data
from itervae.errors import InputError

ROWS = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
CUTS = (0, 7, 8, 30, 50)


def settings(path, **given):
    return DataSettings(data="array", data_path=path, **given)


def shards(folder, suffix=".safetensors", name="x-{:05d}-of-00004", rows=ROWS):
    folder.mkdir(exist_ok=True)
    for number, (first, last) in enumerate(pairwise(CUTS), 1):
        path = folder / (name.format(number) + suffix)
        save_file({"x": rows[first:last]}, path) if suffix == ".safetensors" else np.save(path, rows[first:last])
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".npy"])
@pytest.mark.parametrize("small", [True, False])
def test_rows_are_those_of_one_file(tmp_path, monkeypatch, suffix, small):
    np.save(tmp_path / "whole.npy", ROWS)
    whole = load_source(settings(tmp_path / "whole.npy"), 3)
    folder = shards(tmp_path / "shards", suffix)
    if not small:
        monkeypatch.setattr(source, "SMALL", 0)
    for path in (folder, folder / f"x-*-of-00004{suffix}"):
        with pytest.warns(UserWarning, match=r"one array of 50 rows in 4 files, x-00001-of-00004.* to x-00004-of"):
            found = load_source(settings(path), 3)
        assert isinstance(found.train, torch.Tensor if small else Rows)
        assert torch.equal(found.validation, whole.validation)
        for index in (0, 5, 2):
            assert torch.equal(found.batch(index, 9), whole.batch(index, 9))
        assert found.train.min() == whole.train.min()


@pytest.mark.filterwarnings("ignore:.*was taken for one array")
def test_as_inputs_of_a_run_they_are_those_of_one_file(tmp_path):
    folder = shards(tmp_path / "shards")
    of_rows, of_pictures = (Preparation(DataSettings(data=data), (2, 3)) for data in ("array", "photos"))
    for path in (folder, folder / "x-*.safetensors"):
        for found in (of_rows(path), of_rows(path, "rows", "x"), of_pictures(path, "rows")):
            assert torch.equal(found.x, torch.from_numpy(ROWS))
            assert "(4 files) was taken for 50 rows of 6 values" in found.taken
    with pytest.raises(InputError, match=r"holds no shards"):
        of_rows(tmp_path / "none-*.npy")


@pytest.mark.filterwarnings("ignore:.*was taken for one array")
def test_they_come_by_the_numbers_in_their_names(tmp_path):
    for number in (2, 10, 1):
        np.save(tmp_path / f"part{number}.npy", np.array([[number, 0.25], [number, 0.5], [number, 0.75]]))
    array, _ = read_data(tmp_path)
    assert np.asarray(array)[:, 0].tolist() == [1, 1, 1, 2, 2, 2, 10, 10, 10]


@pytest.mark.filterwarnings("ignore:.*was taken for one array")
def test_images_and_a_validation_set_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "SMALL", 0)
    pictures = np.arange(600.0).reshape(50, 3, 4)
    train = shards(tmp_path / "train", rows=pictures)
    held = shards(tmp_path / "held", rows=pictures[::-1] + 0.5)
    with pytest.warns(UserWarning, match="train .4 files. was taken for 50 images of 3x4 pixels"):
        found = load_source(settings(train, val_path=held), 0)
    assert found.shape == (3, 4)
    assert torch.equal(found.validation, torch.from_numpy(pictures[::-1] + 0.5).float().flatten(1))
    assert sorted(found.batch(0, 50)[:, 0].tolist()) == pictures[:, 0, 0].tolist()


def test_shards_that_do_not_fit_are_refused(tmp_path):
    folder = shards(tmp_path / "a")
    (folder / "x-00002-of-00004.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds 3 of the 4 files x-\*-of-00004; add the rest"):
        load_source(settings(folder), 0)
    other = shards(tmp_path / "b", name="x{}")
    np.save(other / "y.npy", ROWS)
    with pytest.raises(InputError, match=r"holds files of .npy and .safetensors; give those of one"):
        load_source(settings(other), 0)
    save_file({"x": ROWS[:, :5].copy()}, other / "x9.safetensors")
    with pytest.raises(InputError, match=r"x9.safetensors has shape \(50, 5\), and .*\(7, 6\); shards differ in"):
        load_source(settings(other / "*.safetensors"), 0)
    for empty in (tmp_path / "b" / "*.none", tmp_path / "c"):
        (tmp_path / "c").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=r"holds no shards; give a file, or files of one of .npy, .safetensors"):
            load_source(settings(empty), 0)
    save_file({"x": ROWS, "y": ROWS}, other / "x1.safetensors")
    with pytest.raises(InputError, match="holds the arrays x, y; name one of them as the key"):
        load_source(settings(other / "*.safetensors"), 0)
