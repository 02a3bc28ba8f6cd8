"""Rows of an array: as they are, held out without overlap, and refused where they are no
numbers."""

import numpy as np
import pytest
import torch

from itervae.data import DataSettings, load_source
from itervae.errors import InputError
from itervae.formats import read_array


def array_settings(path, **given):
    return DataSettings(data="array", data_path=path, **given)


@pytest.fixture
def rows(tmp_path):
    np.savez(tmp_path / "rows.npz", a=np.arange(60).reshape(20, 3), b=np.arange(60, 90).reshape(10, 3) / 7)
    return tmp_path / "rows.npz"


def test_rows_are_used_as_they_are_and_held_out_once(rows):
    source = load_source(array_settings(rows, data_key="a", val_share=0.25), 0)
    assert (source.name, source.shape, source.dim, source.binary) == ("array", (3,), 3, False)
    assert source.validation.shape == (5, 3)
    assert source.validation.dtype == torch.float32
    together = torch.cat([source.validation, source.batch(0, 15)])
    assert torch.equal(together[together[:, 0].argsort()], torch.arange(60.0).reshape(20, 3))
    assert torch.equal(load_source(array_settings(rows, data_key="a", val_share=0.25), 9).validation, source.validation)
    assert source.describe() == {
        "data": "array",
        "shape": "3",
        "train_rows": 15,
        "validation_rows": 5,
        "path": str(rows),
        "content": source.describe()["content"],
    }


def test_a_named_validation_set_is_taken_whole(rows, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((4, 3)))
    by_key = load_source(array_settings(rows, data_key="a", val_key="b"), 0)
    torch.testing.assert_close(by_key.validation, (torch.arange(60.0, 90.0) / 7).reshape(10, 3))
    assert len(by_key.batch(0, 20).unique(dim=0)) == 20
    by_path = load_source(array_settings(rows, data_key="a", val_path=tmp_path / "v.npy"), 0)
    assert torch.equal(by_path.validation, torch.ones(4, 3))


def test_the_content_hash_follows_the_content(tmp_path):
    hashes = []
    for value in (0, 0, 1):
        np.save(tmp_path / "x.npy", np.array([[1.0, 2], [3, 4], [5, value]]))
        hashes.append(load_source(array_settings(tmp_path / "x.npy"), 0).describe()["content"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan]]), r"holds nan at row 0, column 1"),
        (np.array([[1.0], [-np.inf]]), r"holds -inf at row 1, column 0"),
        (np.array([[1e300]]), r"holds 1e\+300 at row 0"),
        (np.zeros((4, 2, 3, 2, 2)), r"has shape \(4, 2, 3, 2, 2\), but rows .* are needed; reshape it, .* \(4, 24\)"),
        (np.zeros((4, 8, 8, 3)), r"has shape \(4, 8, 8, 3\), with channels last; .*: move them to the front"),
        (np.zeros(5), r"has shape \(5,\), but rows"),
        (np.zeros(()), r"has shape \(\), but rows"),
        (np.zeros((0, 3)), r"is empty, of shape \(0, 3\)"),
        (np.array([["a"]]), "holds values of type <U1"),
        (np.ones((3, 2), complex), "holds values of type complex128"),
        (np.array([[{}]], dtype=object), "holds Python objects"),
        (np.zeros((1, 2)), "leaves nothing to train on"),
    ],
)
def test_arrays_that_are_no_rows_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match=message):
        load_source(array_settings(tmp_path / "x.npy"), 0)


def test_files_and_keys_that_do_not_fit_are_refused(rows, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((4, 5)))
    np.savez(tmp_path / "none.npz")
    (tmp_path / "rows.txt").write_text("1,2")
    whole = rows.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-8])
    (tmp_path / "zero.npy").write_bytes(b"")
    for given, message in [
        ({"data_path": rows}, "holds the arrays a, b; name one"),
        ({"data_path": rows, "data_key": "c"}, "has no array 'c'; it holds a, b"),
        ({"data_path": tmp_path / "wide.npy", "data_key": "a"}, "the key 'a' does not apply"),
        ({"data_path": tmp_path / "none.npz"}, "holds no array"),
        ({"data_path": tmp_path / "gone.npz"}, "gone.npz is not a file"),
        ({"data_path": tmp_path / "rows.txt"}, "has the suffix '.txt'; give a file of one of .npy, .npz, .csv"),
        ({"data_path": tmp_path / "cut.npz", "data_key": "a"}, "cut.npz cannot be read"),
        ({"data_path": tmp_path / "damaged.npz", "data_key": "a"}, "damaged.npz cannot be read"),
        (
            {"data_path": tmp_path / "cut.npy"},
            r"cut.npy claims float64 values of shape \(4, 5\), 160 bytes, but at most 152 follow",
        ),
        ({"data_path": tmp_path / "zero.npy"}, "zero.npy cannot be read"),
        ({"data_path": rows, "data_key": "a", "val_key": "a"}, "is the training set itself"),
        ({"data_path": rows, "data_key": "a", "val_path": tmp_path / "wide.npy"}, "has 5 columns, but .* has 3"),
    ]:
        with pytest.raises(InputError, match=message):
            load_source(DataSettings(data="array", **given), 0)


def test_an_archive_with_one_array_needs_no_key(tmp_path):
    np.savez(tmp_path / "one.npz", only=np.eye(3))
    assert np.array_equal(read_array(tmp_path / "one.npz", None), np.eye(3))


def test_rows_that_are_all_equal_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.tile(np.arange(5.0), (20, 1)))
    with pytest.raises(InputError, match=r"x.npy is constant: all 16 rows to train on are equal"):
        load_source(array_settings(tmp_path / "x.npy"), 0)
