"""Nearest neighbours in a code: how many labels it takes to tell the classes apart.

The protocol of Vafaii, Galor & Yates (2024), "Poisson variational autoencoder": 5 nearest
neighbours, labels drawn from the first half of the data, the second half scored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.evaluation.halves import halves

NEIGHBOURS = 5
BUDGETS = (50, 100, 200, 500, 1000, 2000)
"""Numbers of labels drawn from the first half; the whole of it besides."""
DRAWS = 100
"""Draws of each of these."""
CHUNK = 1000
"""Scored data whose distances are held at once."""
SEARCHED = 12
"""Neighbours expected in what is searched of a pool before all of it is."""


@dataclass(frozen=True)
class NeighbourScore:
    """Accuracy of nearest neighbours with `labels` labelled data.

    `accuracy` is the mean over `draws` of the labelled data; `sd` is the standard deviation over
    draws and `se` is sd / √draws, both None for the whole pool, of which there is one draw.
    `scored_se`, √(accuracy (1 − accuracy) / S), is what the number S of scored data leaves
    uncertain.
    """

    labels: int
    draws: int
    accuracy: float
    sd: float | None
    se: float | None
    scored_se: float


def fitting_budgets(num: int) -> tuple[int, ...]:
    """The numbers of labels that `num` data have: those of `BUDGETS` below the pool, and the whole
    pool.

    Raises:
        InputError: a pool of fewer than 5.
    """
    pool = num // 2
    if pool < NEIGHBOURS:
        raise InputError(
            f"there are {num} data; expected at least {2 * NEIGHBOURS}, so that there are {NEIGHBOURS} neighbours: "
            "raise `num`, or leave out knn"
        )
    return (*(budget for budget in BUDGETS if budget < pool), pool)


def nearest_neighbours(features: Tensor, labels: Tensor, seed: int = 0) -> list[NeighbourScore]:
    """Accuracy of the vote of the 5 nearest labelled data (Euclidean), for each number of labels
    that fits.

    Labelled data are drawn from the first half without replacement: 100 times each number in
    `BUDGETS`, the same draws for every code of as many data, and all of it once. Of classes with as
    many votes the smallest wins, as in scikit-learn; of data equally far the earlier counts as
    nearer.

    Args:
        features: (N, K), N ≥ 10.
        labels: classes (N,), whole numbers.
        seed: of the draws.

    Raises:
        InputError: shapes that do not fit, features that are not finite, too few data, or a class
            in the second half that the first does not have.
    """
    data = halves(features, labels)
    pool = len(data.first)
    generator = torch.Generator().manual_seed(seed)
    # drawn where every device draws the same
    draws = [
        [
            torch.randperm(pool, generator=generator)[:budget].to(features.device)
            for _ in range(DRAWS if budget < pool else 1)
        ]
        for budget in fitting_budgets(len(features))
    ]
    right = [torch.zeros(len(some)) for some in draws]
    for rows in torch.arange(len(data.second), device=features.device).split(CHUNK):
        order = _by_distance(data.second[rows], data.first)
        for counts, some in zip(right, draws, strict=True):
            for index, places in enumerate(_first_chosen(order, some)):
                vote = _vote(data.first_classes[places], data.classes)
                counts[index] += (vote == data.second_classes[rows]).sum().cpu()
    return [
        _score(len(some[0]), counts.double() / len(data.second), len(data.second))
        for counts, some in zip(right, draws, strict=True)
    ]


def _by_distance(scored: Tensor, pool: Tensor) -> Tensor:
    """The places of the pool from the nearest to the farthest (S, P), ties in their own order."""
    # ‖a − b‖² up to ‖a‖²; in float64 nothing near cancels, and counts equally far tie exactly
    pool = pool.double()
    distance = pool.square().sum(1) - 2 * scored.double() @ pool.mT
    return distance.argsort(dim=1, stable=True)


def _first_chosen(order: Tensor, draws: list[Tensor]) -> Iterator[Tensor]:
    """The first 5 in each row of `order` (S, P) that a draw (n,) has, for each of some draws of one
    size: (S, 5)."""
    pool, drawn = order.shape[1], len(draws[0])
    width = min(pool, SEARCHED * pool // drawn)
    front = order[:, :width].flatten()
    for chosen in draws:
        among = torch.zeros(pool, dtype=torch.bool, device=order.device)
        among[chosen] = True
        hit = among.index_select(0, front)  # much faster than among[front]
        count = hit.view(-1, width).count_nonzero(1)
        places = front[hit]  # row by row, each from the left
        enough = count >= NEIGHBOURS
        start = (count.cumsum(0) - count)[enough]
        found = order.new_empty(len(order), NEIGHBOURS)
        found[enough] = places[start[:, None] + torch.arange(NEIGHBOURS, device=order.device)]
        if not enough.all():  # less than one row in a hundred
            whole = order[~enough]
            found[~enough] = whole[among[whole]].view(-1, drawn)[:, :NEIGHBOURS]
        yield found


def _vote(nearest: Tensor, classes: int) -> Tensor:
    """The class with most votes of (S, 5) labels, the smallest of those with as many (S,)."""
    votes = torch.zeros(len(nearest), classes, device=nearest.device)
    votes.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=votes.dtype))
    order = torch.arange(classes, device=nearest.device)
    return (votes * classes - order).argmax(1)  # no two alike: argmax may return any of those


def _score(labels: int, accuracies: Tensor, scored: int) -> NeighbourScore:
    draws, mean = len(accuracies), accuracies.mean().item()
    sd = accuracies.std().item() if draws > 1 else None
    se = None if sd is None else sd / draws**0.5
    return NeighbourScore(labels, draws, mean, sd, se, (mean * (1 - mean) / scored) ** 0.5)
