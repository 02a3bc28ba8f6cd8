"""Arrays from outside: whatever they are made of, the same float32; what float32 does not hold is
named."""

import numpy as np
import pytest
import torch

from itervae.arrays import as_float32
from itervae.errors import InputError

VALUES = np.arange(24).reshape(2, 3, 4) / 8  # exact in all kinds


@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        VALUES.astype(">f8"),
        VALUES.astype(">f4"),
        VALUES.astype(np.float16),
        VALUES.astype(np.longdouble),
        np.asfortranarray(VALUES),
        VALUES[:, ::-1][:, ::-1],
        VALUES[::-1, :, ::-1].copy()[::-1, :, ::-1],  # negative strides
        np.repeat(VALUES, 2, 2)[:, :, ::2],
        np.broadcast_to(VALUES, (2, 3, 4)),
        VALUES.tolist(),
    ],
)
def test_every_kind_gives_the_same_values(array):
    values = as_float32(array, "x")
    assert values.dtype == torch.float32
    assert values.is_contiguous()
    assert torch.equal(values, torch.arange(24.0).reshape(2, 3, 4) / 8)


def test_integers_and_booleans_are_numbers():
    whole = np.arange(6).reshape(2, 3)
    for kind in ("i1", ">i2", "<i8", "u1", ">u2", "u8"):
        assert torch.equal(as_float32(whole.astype(kind), "x"), torch.arange(6.0).reshape(2, 3))
    assert torch.equal(as_float32(whole > 2, "x"), torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
    assert as_float32(np.zeros((0, 3)), "x").shape == (0, 3)


def test_the_array_given_is_not_shared():
    given = np.zeros((2, 2), np.float32)
    as_float32(given, "x").fill_(7)
    assert not given.any()


@pytest.mark.parametrize(
    ("value", "shape", "place", "message"),
    [
        (1e39, (3, 4), (2, 1), r"phi holds 1e\+39 at row 2, column 1, which is no finite 32-bit number"),
        (np.nan, (3,), (2,), r"phi holds nan at position 2,"),
        (-np.inf, (2, 3, 4), (1, 0, 3), r"phi holds -inf at position \(1, 0, 3\),"),
        (3.5e38, (), (), r"phi holds 3\.5e\+38, which"),
    ],
)
def test_what_is_not_finite_in_float32_is_named_with_its_place(value, shape, place, message):
    array = np.zeros(shape)
    array[place] = value
    for given in (array, array.astype(np.longdouble), array.astype(">f8")):
        with pytest.raises(InputError, match=message):
            as_float32(given, "phi")


def test_a_part_names_the_place_in_the_whole():
    with pytest.raises(InputError, match="at row 12, column 1,"):
        as_float32(np.array([[0, 0], [0, 0], [0, np.nan]]), "x", first=10)


@pytest.mark.parametrize("array", [np.array(["a"]), np.ones(2, complex), np.array([{}]), np.array(["2020"], "M8[Y]")])
def test_what_is_no_real_number_is_refused(array):
    with pytest.raises(InputError, match=r"x holds values of type .*, not real numbers"):
        as_float32(array, "x")
