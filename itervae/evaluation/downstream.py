"""What linear classifiers read from a code: shattering, and a readout of all classes.

Shattering: Bernardi et al. (2020), "The geometry of abstraction in the hippocampus and prefrontal
cortex". The first half of the data is fitted and the second scored, features standardized by the
first: the protocol of the nearest neighbours, so that all read-outs see the same data. (The code of
Vafaii, Galor & Yates (2024), "Poisson variational autoencoder", fits the 60,000 training digits and
scores the test digits, with features as they are.) Both are logistic regression by scikit-learn
with its penalty ‖w‖²/2 beside the sum of the losses.
"""

import warnings
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from torch import Tensor

from itervae.errors import InputError
from itervae.evaluation.halves import halves

MAX_ITERATIONS = 2000
MAX_SPLITS = 2000


@dataclass(frozen=True)
class ShatteringScore:
    """Accuracy over balanced splits of the classes: mean and standard deviation over `splits`;
    `not_converged` counts fits that were stopped after 2000 iterations."""

    accuracy: float
    sd: float
    splits: int
    not_converged: int


@dataclass(frozen=True)
class ReadoutScore:
    """Accuracy on all classes, `se` its standard error √(accuracy (1 − accuracy) / scored);
    `not_converged` is 1 where the fit was stopped after 2000 iterations."""

    accuracy: float
    se: float
    not_converged: int


def balanced_splits(classes: int) -> list[tuple[int, ...]]:
    """All distinct divisions of the classes 0 … C − 1 into two groups of C/2, each by one of its
    groups.

    With an odd number of classes one group has (C − 1)/2 of them, which is the one given. There are
    C! / (2 ((C/2)!)²) for an even C, 126 for ten, and C! / (((C − 1)/2)! ((C + 1)/2)!) for an odd
    one.

    Raises:
        InputError: fewer than two classes, or more than 2000 splits (15 classes or more).
    """
    if classes < 2:
        raise InputError(f"there are {classes} classes; expected at least 2 to split")
    size = classes // 2
    number = comb(classes, size) // (2 if classes % 2 == 0 else 1)
    if number > MAX_SPLITS:
        raise InputError(
            f"{classes} classes have {number} balanced splits; expected at most {MAX_SPLITS}: leave out shattering"
        )
    if classes % 2:
        return list(combinations(range(classes), size))
    return [(0, *rest) for rest in combinations(range(1, classes), size - 1)]  # the other group mirrors it


def shattering(features: Tensor, labels: Tensor) -> ShatteringScore:
    """Mean accuracy of logistic regression over all distinct balanced splits of the classes.

    How many ways of grouping the classes a code makes linearly separable. Fitted on the first half
    of the data, scored on the second.

    Args:
        features: (N, K).
        labels: classes (N,), whole numbers.

    Raises:
        InputError: as `halves` and `balanced_splits`.
    """
    data = halves(features, labels)
    first, second = (half.cpu().numpy() for half in data.standardized())
    first_classes, second_classes = data.first_classes.cpu().numpy(), data.second_classes.cpu().numpy()
    scores, stopped = [], 0
    for group in balanced_splits(data.classes):
        accuracy, converged = _fit(first, np.isin(first_classes, group), second, np.isin(second_classes, group))
        scores.append(accuracy)
        stopped += not converged
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
    return ShatteringScore(float(np.mean(scores)), sd, len(scores), stopped)


def linear_readout(features: Tensor, labels: Tensor) -> ReadoutScore:
    """Accuracy of multinomial logistic regression of all classes, fitted on the first half and
    scored on the second.

    Args:
        features: (N, K).
        labels: classes (N,), whole numbers.

    Raises:
        InputError: as `halves`.
    """
    data = halves(features, labels)
    first, second = (half.cpu().numpy() for half in data.standardized())
    accuracy, converged = _fit(first, data.first_classes.cpu().numpy(), second, data.second_classes.cpu().numpy())
    return ReadoutScore(accuracy, (accuracy * (1 - accuracy) / len(second)) ** 0.5, int(not converged))


def _fit(x: np.ndarray, y: np.ndarray, scored: np.ndarray, truth: np.ndarray) -> tuple[float, bool]:
    """(accuracy, whether the fit converged)."""
    from sklearn.exceptions import ConvergenceWarning  # takes a second to import
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
        model = LogisticRegression(max_iter=MAX_ITERATIONS).fit(x, y)
    return float(model.score(scored, truth)), bool((model.n_iter_ < MAX_ITERATIONS).all())
