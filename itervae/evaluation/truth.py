"""How much of a known dictionary a learned one has, and how much of the codes.

Features of the truth and units of the model are paired one to one, so that the sum of what the
pairs have in common is largest (`scipy.optimize.linear_sum_assignment`). The mean correlation
coefficient is that of codes, |Pearson's r|, as in Barin Pacela et al. (2026), "Stop probing, start
coding"; of atoms it is their cosine.
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from itervae.errors import InputError

FIRES = 0.1
"""A unit fires where its part of the reconstruction, |a_k|·‖φ_k‖, is larger than this share of the
mean size of a feature that fires."""
FOUND = 0.9
"""A feature is found where the cosine of its atom with that of its unit is larger."""


@dataclass(frozen=True)
class Firings:
    """How well units tell when their features fire: means over features that fire in some of the
    data.

    `precision` is the share of a unit's firings in which its feature fires, 0 where it never does;
    `recall` the share of a feature's firings in which its unit fires; `f1` their harmonic mean; of
    so many `features`.
    """

    features: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class TruthReport:
    """A model beside the truth.

    `mcc` is the mean correlation coefficient of codes, over features that vary in these data;
    `mcc_atoms` the mean cosine of atoms, over all features, and `found` the share above
    `FOUND`. `firings` are of all features that fire, of the half of them that fires more often
    (`common`) and of the other half (`rare`), units being paired by atoms; `threshold` is what a
    unit's part of the reconstruction is above where it fires. `dead` units of `units` fire in no
    datum.
    """

    mcc: float
    mcc_atoms: float
    found: float
    units: int
    dead: int
    threshold: float
    firings: Firings
    common: Firings
    rare: Firings


@torch.no_grad()
def compare_truth(atoms: Tensor, codes: Tensor, true_atoms: Tensor, true_codes: Tensor) -> TruthReport:
    """A dictionary and codes beside those that the data were made of.

        mcc = mean over features i of |r(a_i, z_π(i))|        π: the pairs of largest sum

    Units in excess are left out before codes are paired: those that vary least, as published.
    Features for which there is no unit count as 0. Atoms have a sign: their cosine is signed where
    no code is negative, else its size is taken.

    Args:
        atoms: dictionary (D, K), atoms of any norm.
        codes: mean codes (N, K).
        true_atoms: (D, F).
        true_codes: (N, F), at least 0; 0 where a feature does not fire.

    Raises:
        InputError: shapes that do not fit, or truth in which nothing varies.
    """
    (size, units), (count, features) = atoms.shape, true_codes.shape
    if codes.shape != (count, units) or true_atoms.shape != (size, features) or count < 2:
        raise InputError(
            f"atoms are {tuple(atoms.shape)}, codes {tuple(codes.shape)}, and the true ones {tuple(true_atoms.shape)} "
            f"and {tuple(true_codes.shape)}; expected (D, K), (N, K), (D, F) and (N, F), N at least 2"
        )
    atoms, codes, true_atoms, true_codes = (
        part.detach().double().cpu() for part in (atoms, codes, true_atoms, true_codes)
    )
    varying = true_codes.std(0) > 0
    if not varying.any():
        raise InputError(f"none of the {features} true features varies in these {count} data; give more data")
    cosines = _unit(true_atoms).mT @ _unit(atoms)
    if (codes < 0).any():
        cosines = cosines.abs()
    feature, unit = _paired(cosines)
    part = codes.abs() * atoms.norm(dim=0)
    threshold = FIRES * true_codes[true_codes > 0].mean().item()
    fires, paired = part > threshold, torch.zeros_like(true_codes, dtype=torch.bool)
    paired[:, feature] = fires[:, unit]
    scores, order = _scores(paired, true_codes > 0)
    half = (len(order) + 1) // 2
    return TruthReport(
        mcc=_correlation(true_codes[:, varying], codes),
        mcc_atoms=cosines[feature, unit].sum().item() / features,
        found=(cosines[feature, unit] > FOUND).sum().item() / features,
        units=units,
        dead=int((~fires.any(0)).sum()),
        threshold=threshold,
        firings=_mean(scores[order]),
        common=_mean(scores[order[:half]]),
        rare=_mean(scores[order[half:]]),
    )


def _paired(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of rows and columns of largest sum."""
    rows, columns = linear_sum_assignment(likeness.numpy(), maximize=True)
    return torch.from_numpy(rows), torch.from_numpy(columns)


def _unit(columns: Tensor) -> Tensor:
    """Columns of unit norm; zeros stay so."""
    return columns / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)


def _correlation(truth: Tensor, codes: Tensor) -> float:
    codes = codes[:, codes.var(0).argsort(descending=True, stable=True)[: truth.shape[1]]]
    found = (_unit(truth - truth.mean(0)).mT @ _unit(codes - codes.mean(0))).abs()
    return found[_paired(found)].sum().item() / truth.shape[1]


def _scores(fires: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Precision, recall and F1 of each feature (F, 3), and the features that fire, most frequent
    first."""
    both, said, true = ((fires & truth).sum(0).double(), fires.sum(0).double(), truth.sum(0).double())
    scores = torch.stack(
        [both / said.clamp_min(1), both / true.clamp_min(1), 2 * both / (said + true).clamp_min(1)], dim=1
    )
    order = true.argsort(descending=True, stable=True)
    return scores, order[true[order] > 0]


def _mean(scores: Tensor) -> Firings:
    precision, recall, f1 = scores.mean(0).tolist() if len(scores) else (0.0, 0.0, 0.0)
    return Firings(len(scores), precision, recall, f1)
