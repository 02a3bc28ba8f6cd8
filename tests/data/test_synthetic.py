"""Synthetic data of a known dictionary: what fires, how often, and with what."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from itervae.data import DataSettings, load_source
from itervae.data.source import RowSource
from itervae.data.synthetic import draw_data, draw_truth, parent_of
from itervae.errors import InputError

SMALL = DataSettings(data="synthetic", features=30, datum_size=12, active=3, num_data=4000)


def fires(settings, split="train", count=10_000):
    return (draw_truth(settings, split, count).codes > 0).numpy()


def test_data_are_their_codes_decoded_and_the_same_whenever_they_are_drawn():
    source, again = load_source(SMALL, 0), load_source(SMALL, 7)
    assert source.describe()["train_rows"] == 3200
    for split, x in (("train", source.train), ("validation", source.validation), ("test", source.load_test()[0])):
        truth = source.truth(split)
        torch.testing.assert_close(x, truth.codes @ truth.atoms.mT)
        torch.testing.assert_close(truth.atoms.norm(dim=0), torch.ones(30))
        assert torch.equal(truth.codes, again.truth(split).codes)  # the seed of a run changes the batches alone
    assert torch.equal(source.train, again.train)
    assert not torch.equal(source.batch(0, 10), again.batch(0, 10))
    assert not torch.equal(source.train, load_source(replace(SMALL, data_seed=1), 0).train)
    first, more = draw_truth(SMALL, "train", 10), draw_truth(SMALL, "train", 2500)
    assert torch.equal(first.codes, more.codes[:10])
    assert torch.equal(first.atoms, more.atoms)


def test_exactly_so_many_fire_all_as_often():
    found = fires(SMALL)
    assert (found.sum(1) == 3).all()
    assert np.abs(found.mean(0) - 0.1).max() < 5 * (0.1 * 0.9 / len(found)) ** 0.5


@pytest.mark.parametrize(("children", "correlation"), [(0, 0.0), (2, 0.0), (0, 0.5), (2, 0.5)])
def test_features_fire_by_their_probabilities(children, correlation):
    settings = replace(SMALL, firing="independent", zipf=1.0, children=children, correlation=correlation)
    settings.check()
    found = fires(settings)
    expected = np.array([settings.probability(rank) for rank in range(1, 31)])
    assert expected.sum() == pytest.approx(3)
    assert expected[1] / expected[9] == pytest.approx(5)
    if not (children and correlation):  # else a child depends on what its parent has in common with it
        assert (np.abs(found.mean(0) - expected) < 5 * (expected * (1 - expected) / len(found)) ** 0.5).all()
    for child in range(10, 30 if children else 0):
        assert not found[~found[:, parent_of(settings, child)], child].any()
    ties = np.abs(np.corrcoef(found[:, :8].T) - np.eye(8)).max()
    assert ties > 0.1 if correlation else ties < 5 / len(found) ** 0.5 or children


def test_combinations_are_withheld_from_training_and_make_the_test_set():
    settings = replace(SMALL, withhold=True)
    train, test = fires(settings), fires(settings, "test")
    assert not train[train[:, 0], 15:].any()
    assert abs(train[:, 0].mean() - 0.5) < 5 * 0.5 / len(train) ** 0.5
    assert train[~train[:, 0], 15:].any(0).all()  # which fire without the first
    assert test[:, 0].all() and not test[:, 1:15].any() and (test.sum(1) == 3).all()  # noqa: PT018
    assert np.abs(test[:, 15:].mean(0) - 2 / 15).max() < 0.02


def test_sizes_have_a_mean_of_one_half_and_noise_its_deviation():
    for kind, most, spread in (("uniform", 1, 1 / 12**0.5), ("exponential", np.inf, 0.5), ("equal", 0.5, 0)):
        codes = draw_truth(replace(SMALL, magnitudes=kind), "train", 5000).codes
        sizes = codes[codes > 0].double()
        assert sizes.max() <= most
        assert sizes.mean() == pytest.approx(0.5, abs=0.02)
        assert sizes.std() == pytest.approx(spread, abs=0.02)
    noisy = replace(SMALL, noise=0.3)
    truth = draw_truth(noisy, "train", 2000)
    noise = draw_data(noisy, truth, "train") - truth.codes @ truth.atoms.mT
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    assert not torch.equal(noise[:1000], noise[1000:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": 1}, "`features=1` is out of range; give a whole number of at least 2"),
        ({"active": 40.0}, "`active=40.0` is out of range; .* of at most the 30 features"),
        ({"active": 2.5}, "`active=2.5` is not whole, .*or `firing=independent`"),
        ({"correlation": 1.0}, "`correlation=1.0` is out of range; give a share"),
        ({"noise": -1.0}, "`noise=-1.0` is out of range"),
        ({"noise": float("nan")}, "`noise=nan` is out of range"),
        ({"num_data": 3}, "`num_data=3` is out of range"),
        ({"data_seed": -1}, "`data_seed=-1` is out of range"),
        ({"zipf": 1.0}, "`zipf=1` is of features that fire by probabilities of their own; add"),
        ({"firing": "independent", "zipf": 3.0}, "would let the first feature fire with probability 2.5"),
        ({"firing": "independent", "children": 2}, "make children as frequent as their parents"),
        ({"firing": "independent", "zipf": 0.5, "children": 2, "withhold": True}, "would part children from"),
        ({"withhold": True, "active": 16.0}, "more than the 15 features that fire together"),
        ({"data": "photos"}, "`features=30` does not apply to `data=photos`; leave it out, or use `data=synthetic`"),
        ({"patch_size": 8}, "`patch_size=8` does not apply to `data=synthetic`"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        load_source(replace(SMALL, **given), 0)


def test_a_split_that_is_none_is_refused():
    with pytest.raises(InputError, match="split is 'training'; did you mean train"):
        load_source(SMALL, 0).truth("training")
    assert RowSource("rows", (2,), torch.ones(3, 2), torch.ones(2, 2), 0).truth("train") is None
