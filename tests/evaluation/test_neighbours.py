"""Nearest neighbours against scikit-learn, a loop, and codes with known answers."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from itervae import InputError
from itervae.evaluation import neighbours
from itervae.evaluation.neighbours import fitting_budgets, nearest_neighbours


def labelled(count=300, size=3, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, size, generator=generator)
    # a class depends on the features, so that accuracies lie between chance and 1
    labels = ((features[:, 0] + 0.3 * torch.randn(count, generator=generator)) * 2).round().long().clamp(
        -4, 5
    ) % classes
    return features, labels


def draws_of(pool, seed):
    generator = torch.Generator().manual_seed(seed)
    for budget in fitting_budgets(2 * pool):
        yield budget, [torch.randperm(pool, generator=generator)[:budget] for _ in range(100 if budget < pool else 1)]


def test_budgets_are_those_below_the_pool_and_the_pool():
    assert fitting_budgets(10_000) == (50, 100, 200, 500, 1000, 2000, 5000)
    assert fitting_budgets(2001) == (50, 100, 200, 500, 1000)
    assert fitting_budgets(100) == (50,)
    assert fitting_budgets(21) == (10,)


@pytest.mark.parametrize("searched", [5, 12])  # with 5, many rows are searched to their end
def test_same_as_scikit_learn(monkeypatch, searched):
    monkeypatch.setattr(neighbours, "SEARCHED", searched)
    monkeypatch.setattr(neighbours, "CHUNK", 70)
    features, labels = labelled(count=241, size=4)
    x, y = features.numpy(), labels.numpy()
    found = nearest_neighbours(features, labels, seed=3)
    assert [score.labels for score in found] == [50, 100, 120]
    for score, (budget, draws) in zip(found, draws_of(120, 3), strict=True):
        accuracies = [
            KNeighborsClassifier(5, algorithm="brute").fit(x[draw], y[draw]).score(x[120:], y[120:])
            for draw in map(np.asarray, draws)
        ]
        assert (score.labels, score.draws) == (budget, len(draws))
        assert score.accuracy == pytest.approx(np.mean(accuracies), abs=1e-12)
        if len(draws) > 1:
            assert score.sd == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)
            assert score.se == pytest.approx(score.sd / 10)
        else:
            assert score.sd is score.se is None
        assert score.scored_se == pytest.approx((score.accuracy * (1 - score.accuracy) / 121) ** 0.5)


def test_of_counts_equally_far_the_earlier_is_nearer_and_of_classes_the_smaller():
    generator = torch.Generator().manual_seed(1)
    features = torch.poisson(torch.full((160, 3), 0.7), generator=generator)
    labels = torch.randint(0, 6, (160,), generator=generator)
    found = nearest_neighbours(features, labels, seed=0)
    x, y = features.numpy(), labels.numpy()
    for score, (_, draws) in zip(found, draws_of(80, 0), strict=True):
        right = []
        for draw in map(np.asarray, draws):
            pool = np.sort(draw)
            for at in range(80, 160):
                distance = ((x[pool] - x[at]) ** 2).sum(1)
                votes = np.bincount(y[pool[np.argsort(distance, kind="stable")[:5]]], minlength=6)
                right.append(votes.argmax() == y[at])
        assert score.accuracy == pytest.approx(np.mean(right), abs=1e-12)


def test_separable_codes_are_told_apart_and_random_ones_are_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (1000,), generator=generator)
    noise = torch.randn(1000, 4, generator=generator)
    apart = nearest_neighbours(torch.nn.functional.one_hot(labels, 4) * 100 + noise, labels)
    assert [score.accuracy for score in apart[1:]] == [1.0] * (len(apart) - 1)  # 50 labels may miss a class
    chance = nearest_neighbours(noise, labels)
    for score in chance:
        assert abs(score.accuracy - 0.25) < 4 * score.scored_se


def test_names_and_units_of_features_do_not_matter():
    features, labels = labelled()
    found = nearest_neighbours(features, labels)
    assert nearest_neighbours(features.double() * 3 + 1, labels * 7 - 100) == found
    assert nearest_neighbours(features, labels, seed=1) != found


def test_errors():
    features, labels = labelled(20)
    with pytest.raises(InputError, match="there are 8 data; expected at least 10"):
        nearest_neighbours(features[:8], torch.tensor([0, 1] * 4))
    with pytest.raises(InputError, match="class 9 is in the second half of the 20 data and not in the first"):
        nearest_neighbours(features, torch.tensor([0, 1] * 9 + [0, 9]))
    with pytest.raises(InputError, match=r"all labels are \[3\]; expected at least two classes"):
        nearest_neighbours(features, torch.full((20,), 3))
    with pytest.raises(InputError, match=r"\(20, 3\) and labels \(19,\)"):
        nearest_neighbours(features, labels[1:])
    features[4, 1] = torch.inf
    with pytest.raises(InputError, match="the code of 1 of 20 data is not finite"):
        nearest_neighbours(features, labels)
