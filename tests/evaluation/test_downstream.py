"""Linear classifiers on codes with known answers, and against scikit-learn's own pipeline."""

from math import comb

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from itervae import InputError
from itervae.evaluation.downstream import balanced_splits, linear_readout, shattering


def random_labels(count, classes, seed=0):
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("classes", "number"), [(2, 1), (3, 3), (4, 3), (5, 10), (9, 126), (10, 126), (12, 462)])
def test_splits_are_all_there_and_distinct(classes, number):
    splits = balanced_splits(classes)
    everything = frozenset(range(classes))
    groups = {frozenset([frozenset(split), everything - frozenset(split)]) for split in splits}
    assert len(splits) == len(groups) == number
    assert number == comb(classes, classes // 2) // (2 - classes % 2)
    assert all(len(split) == classes // 2 for split in splits)


def test_labels_themselves_are_shattered():
    labels = random_labels(400, 10)
    found = shattering(torch.nn.functional.one_hot(labels).float(), labels)
    assert (found.accuracy, found.sd, found.splits, found.not_converged) == (1.0, 0.0, 126, 0)
    assert linear_readout(torch.nn.functional.one_hot(labels).float(), labels).accuracy == 1.0


def test_the_corners_of_a_square_are_shattered_but_for_one_split():
    labels = random_labels(2000, 4)
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])[labels]
    found = shattering(corners + 0.05 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1)), labels)
    # two splits along the sides; that along the diagonals (exclusive or) leaves a line at most
    # three corners of four
    assert found.splits == 3
    assert (2 + 0.45) / 3 < found.accuracy < (2 + 0.78) / 3
    assert found.sd > 0.1


def test_random_codes_are_at_chance():
    labels = random_labels(600, 6)
    noise = torch.randn(600, 4, generator=torch.Generator().manual_seed(2))
    assert abs(shattering(noise, labels).accuracy - 0.5) < 4 * 0.5 / 300**0.5
    found = linear_readout(noise, labels)
    assert abs(found.accuracy - 1 / 6) < 4 * found.se
    assert found.se == pytest.approx((found.accuracy * (1 - found.accuracy) / 300) ** 0.5)


def test_readout_is_that_of_scikit_learn_whatever_the_units():
    labels = random_labels(301, 5)
    features = torch.nn.functional.one_hot(labels) + torch.randn(301, 5, generator=torch.Generator().manual_seed(3))
    x, y = features.double().numpy(), labels.numpy()
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[:150], y[:150])
    found = linear_readout(features, labels)
    assert found.accuracy == pytest.approx(expected.score(x[150:], y[150:]))
    assert 0.3 < found.accuracy < 0.95
    scaled = features.double() * torch.tensor([1.0, 1e-3, 1e3, -2.0, 5.0]) + 100
    assert linear_readout(scaled, labels * 3 + 1) == found
    constant = torch.cat([features, torch.ones(301, 1)], 1)
    assert linear_readout(constant, labels) == found


def test_errors():
    with pytest.raises(InputError, match="15 classes have 6435 balanced splits; expected at most 2000"):
        balanced_splits(15)
    with pytest.raises(InputError, match="there are 1 classes"):
        balanced_splits(1)
