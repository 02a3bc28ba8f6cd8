"""Arrays that are written part by part are those that are written at once, or nothing is."""

import numpy as np
import pytest

from itervae.errors import InputError
from itervae.files import Columns, write_arrays


def test_parts_make_the_whole(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "a": generator.normal(size=(10, 3)),
        "b": generator.integers(0, 9, 10),
        "c": np.zeros((10, 0), np.float32),
    }
    with Columns(tmp_path / "x.npz") as columns:
        for start in (0, 4, 8):
            columns.add({name: array[start : start + 4] for name, array in arrays.items() if name != "b"})
        columns.add({"b": arrays["b"]})
        assert not (tmp_path / "x.npz").exists()
    write_arrays(tmp_path / "y.npz", arrays)
    with np.load(tmp_path / "x.npz") as parts, np.load(tmp_path / "y.npz") as whole:
        for name in arrays:
            np.testing.assert_array_equal(parts[name], whole[name])
            assert parts[name].dtype == whole[name].dtype
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npz", "y.npz"]


def write(path, *parts):
    """Parts of one array, and an interruption where a part is one."""
    with Columns(path) as columns:
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            columns.add({"a": part})


def test_nothing_is_left_of_what_ended_early(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.npz", np.ones(3), KeyboardInterrupt())
    with pytest.raises(InputError, match=r"a part of a is float64 \(2,\); expected float64 \(\)"):
        write(tmp_path / "x.npz", np.ones(3), np.ones((3, 2)))
    assert (tmp_path / "x.npz").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(InputError, match=r"expected a name ending in \.npz"):
        write(tmp_path / "x.npy")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="could not write"):
        write(tmp_path / "file" / "x.npz", np.ones(3))
