"""Rows in epochs: each row once per epoch, batches that depend on nothing but seed, index and
size."""

import numpy as np
import pytest
import torch

from itervae.data.source import RowSource, held_out, random_stream
from itervae.errors import InputError


def source(count=10, seed=0):
    x = torch.arange(count, dtype=torch.float32)[:, None]
    return RowSource("array", (1,), x, x[:1], seed)


@pytest.mark.parametrize("size", [1, 3, 7, 10, 25])
def test_each_epoch_visits_every_row_once(size):
    epochs = 21
    rows = torch.cat([source().batch(index, size) for index in range(epochs * 10 // size + 1)]).flatten()
    rows = rows[: epochs * 10].reshape(epochs, 10)
    assert torch.equal(rows.sort(1).values, torch.arange(10.0).expand(epochs, 10))
    assert len({tuple(row) for row in rows.tolist()}) > epochs - 2  # the order changes


def test_a_batch_depends_only_on_seed_index_and_size():
    expected = [source(100).batch(index, 33) for index in range(12)]
    other = source(100)
    for index in (7, 0, 11, 3, 7, 8, 2):
        assert torch.equal(other.batch(index, 33), expected[index])
    assert not torch.equal(source(100, seed=1).batch(0, 33), expected[0])


def test_nothing_global_is_touched():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    source().batch(5, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_streams_of_neighbouring_seeds_and_purposes_are_unrelated():
    draws = [random_stream(s, p, i).standard_normal(2000) for s in (0, 1) for p in (0, 1) for i in (0, 1, 2**33)]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / 2000**0.5


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (0, 0)])
def test_impossible_batches_are_refused(index, size):
    with pytest.raises(InputError, match=f"batch {index} of size {size}"):
        source().batch(index, size)


def test_a_negative_seed_and_a_missing_test_set_are_refused():
    with pytest.raises(InputError, match="seed -1"):
        source(seed=-1)
    with pytest.raises(InputError, match="`data=array` has no test set"):
        source().load_test()


def test_held_out_divides_without_overlap():
    train, held = held_out(50, 0.2, "rows")
    assert len(held) == 10
    assert sorted([*train, *held]) == list(range(50))
    assert not np.array_equal(held, np.arange(10))
    assert not np.array_equal(held, np.arange(40, 50))
    assert len(held_out(3, 0.01, "rows")[1]) == 1
    with pytest.raises(InputError, match=r"`val_share=0\.2` of 1 rows leaves nothing"):
        held_out(1, 0.2, "rows")
