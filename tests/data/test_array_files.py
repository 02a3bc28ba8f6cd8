"""One reader of all formats: an array comes back as it was written, and damage is told."""

import gzip

import numpy as np
import pytest
import scipy.io
from safetensors.numpy import save_file

from itervae.errors import InputError
from itervae.formats import array_names, is_array_file, read_array

X = np.arange(24, dtype=np.int16).reshape(6, 4) - 3


def write_idx(path, array):
    """An idx file, by its specification; packed where the name says so."""
    types = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
    head = bytes([0, 0, types[array.dtype.name], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_hdf5(path, array, **options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", **options) as file:
        file["group/x"] = array


def write_matlab73(path, array):
    """As MATLAB does: HDF5 behind a block of 512 bytes, the first dimension last, text as
    numbers."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"] = array.T
        file["x"].attrs["MATLAB_class"] = np.bytes_("int16")
        file["note"] = np.array([[104, 105]], "u2")
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = np.zeros(3)
    content = bytearray(path.read_bytes())
    content[:20] = b"MATLAB 7.3 MAT-file "
    path.write_bytes(content)


WRITERS = {
    "x.npy": np.save,
    "x.npz": lambda path, array: np.savez_compressed(path, x=array),
    "x.csv": lambda path, array: np.savetxt(path, array, fmt="%d", delimiter=","),
    "named.csv": lambda path, array: np.savetxt(path, array, fmt="%d", delimiter=",", header="a,b,c,d", comments=""),
    "x.mat": lambda path, array: scipy.io.savemat(path, {"x": array, "note": "hi"}),
    "new.mat": write_matlab73,
    "x.h5": write_hdf5,
    "block.hdf5": lambda path, array: write_hdf5(path, array, userblock_size=1024),
    "x.safetensors": lambda path, array: save_file({"x": np.ascontiguousarray(array)}, path),
    "x-idx2-short": write_idx,
    "x.idx2-short": write_idx,
    "x-idx2-short.gz": write_idx,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore:.*was taken for")
def test_an_array_comes_back(tmp_path, name):
    WRITERS[name](tmp_path / name, X)
    found = read_array(tmp_path / name)
    np.testing.assert_array_equal(found, X)
    assert found.shape == X.shape
    assert is_array_file(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x-idx2-short", "x.h5", "new.mat", "x.safetensors"])
def test_files_in_one_piece_are_mapped(tmp_path, name):
    WRITERS[name](tmp_path / name, X)
    found = read_array(tmp_path / name)
    while found is not None and not isinstance(found, np.memmap):
        found = found.base
    assert isinstance(found, np.memmap)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_files_of_every_type(tmp_path, dtype):
    array = (
        (np.random.default_rng(0).normal(size=(5, 3, 2)) * 50).astype(dtype) if dtype != "u1" else np.eye(3, dtype="u1")
    )
    write_idx(tmp_path / "x-idx3", array)
    np.testing.assert_array_equal(read_array(tmp_path / "x-idx3"), array)


def test_a_key_names_one_of_several_in_any_format(tmp_path):
    other = X * 2
    np.savez(tmp_path / "x.npz", a=X, b=other)
    scipy.io.savemat(tmp_path / "x.mat", {"a": X, "b": other})
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"] = X, other
    for name in ("x.npz", "x.mat", "x.h5"):
        assert array_names(tmp_path / name) == ["a", "b"]
        np.testing.assert_array_equal(read_array(tmp_path / name, "b"), other)
        with pytest.raises(InputError, match="holds the arrays a, b; name one of them as the key"):
            read_array(tmp_path / name)
        with pytest.raises(InputError, match="has no array 'c'; it holds a, b"):
            read_array(tmp_path / name, "c")


CSV = {
    "1,2\n3,x\n": "is no table of numbers",
    "a,b\n1,red\n": "column 'b' of .* holds 'red', which is no number; remove it.*labels go into a file of their own",
    "a;b\n1;2\n": "has no commas between its values",
    "1,2\n3\n": "is no table of numbers",
    "a,b\n1,2\n3,\n": "has no value in line 3, column 2; fill it in",
    "a,b\n1,\n3,4\n": "has no value in line 2, column 2; fill it in",
    "1,,3\n4,5,6\n": "has no value in line 1, column 2; fill it in",
    "": "is empty",
    ",a,b\n0,1,2\n1,3,4\n": r"numbers the rows from 0, as pandas writes its index; leave it out \(to_csv",
    ",0,1\n0,1.5,2\n1,3,4\n": "numbers the rows from 0, as pandas writes its index",
    "a,b\n": "has one line, 'a,b', which is no numbers",
}


@pytest.mark.parametrize("text", CSV)
def test_a_table_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=CSV[text]):
        read_array(tmp_path / "x.csv")


def test_what_a_table_was_taken_for_is_said(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    with pytest.warns(
        UserWarning, match=r"x.csv was taken for 3 rows of 2 columns, with a first line of names \(a, b\)"
    ):
        assert read_array(tmp_path / "x.csv").tolist() == [[1, 2], [3, 4], [5, 6]]
    (tmp_path / "x.csv").write_text(",b\n7,2\n8,4\n")  # a column without a name, of data
    with pytest.warns(UserWarning, match="2 rows of 2 columns"):
        assert read_array(tmp_path / "x.csv").tolist() == [[7, 2], [8, 4]]


@pytest.mark.parametrize("name", ["x.npz", "x.mat", "new.mat", "x.h5", "x-idx2-short", "x-idx2-short.gz"])
def test_files_that_are_cut_are_refused(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 1000, (60, 40)).astype(np.int16)
    WRITERS[name](tmp_path / name, array)
    whole = (tmp_path / name).read_bytes()
    for length in (0, 3, 150, len(whole) - 40):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"make or copy it again|holds no array|save it again"):
            read_array(tmp_path / name)
