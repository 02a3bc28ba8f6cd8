"""A learned dictionary beside the true one: exact answers, and each number a second time by other
means."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from itervae.data import DataSettings
from itervae.data.synthetic import draw_truth
from itervae.errors import InputError
from itervae.evaluation import compare_truth
from itervae.evaluation.truth import FIRES

SETTINGS = DataSettings(
    data="synthetic", features=6, datum_size=5, active=1.2, firing="independent", zipf=0.7, num_data=400
)


@pytest.fixture(scope="module")
def truth():
    return draw_truth(SETTINGS, "train", 400)


def test_the_truth_in_any_order_and_scale_is_the_truth(truth):
    order, scale = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([0.1, 2, 3, 1, 5, 0.5])
    codes = truth.codes.clone()
    codes[(codes > 0) & (codes < FIRES)] = FIRES  # none so small that it does not count as firing
    found = compare_truth(scale * truth.atoms[:, order], codes[:, order] / scale, truth.atoms, codes)
    for value in (found.mcc, found.mcc_atoms, found.found, found.firings.f1, found.common.f1, found.rare.f1):
        assert value == pytest.approx(1, abs=1e-6)
    assert (found.units, found.dead) == (6, 0)
    assert (found.common.features, found.rare.features) == (3, 3)
    assert found.threshold == pytest.approx(FIRES * codes[codes > 0].double().mean().item())


def test_pairs_have_the_largest_sum_of_all_permutations(truth):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(5, 6, generator=generator)
    codes = (truth.codes + 0.5 * torch.rand(400, 6, generator=generator)) @ torch.rand(6, 6, generator=generator)
    found = compare_truth(atoms, codes, truth.atoms, truth.codes)
    cosines = (truth.atoms.mT @ (atoms / atoms.norm(dim=0))).numpy()
    correlations = np.abs(np.corrcoef(truth.codes.numpy(), codes.numpy(), rowvar=False)[:6, 6:])
    for value, likeness in ((found.mcc_atoms, cosines), (found.mcc, correlations)):
        sums = [likeness[range(6), order].sum() for order in map(list, itertools.permutations(range(6)))]
        assert value == pytest.approx(max(sums) / 6, abs=1e-6)


def test_firings_are_those_of_an_independent_implementation(truth):
    generator = torch.Generator().manual_seed(1)
    codes = truth.codes * (torch.rand(400, 6, generator=generator) < 0.7)
    codes = codes + 0.4 * (torch.rand(400, 6, generator=generator) < 0.1)
    codes[:, 5] = 0
    found = compare_truth(truth.atoms, codes, truth.atoms, truth.codes)
    said, true = (codes > found.threshold).numpy(), (truth.codes > 0).numpy()
    scores = np.array(precision_recall_fscore_support(true, said, zero_division=0)[:3])
    often = np.argsort(-true.sum(0), kind="stable")
    for firings, chosen in ((found.firings, often), (found.common, often[:3]), (found.rare, often[3:])):
        expected = scores[:, chosen].mean(1)
        assert (firings.precision, firings.recall, firings.f1) == pytest.approx(tuple(expected))
    assert found.dead == 1


def test_units_in_excess_change_nothing_and_missing_ones_count_as_zero(truth):
    codes, atoms = truth.codes, truth.atoms
    more = compare_truth(torch.cat([atoms, atoms], 1), torch.cat([codes, 0.1 * codes], 1), atoms, codes)
    assert more.mcc == pytest.approx(1) and more.mcc_atoms == pytest.approx(1)  # noqa: PT018
    fewer = compare_truth(atoms[:, :3], codes[:, :3], atoms, codes)
    assert fewer.mcc_atoms == pytest.approx(0.5) and fewer.mcc == pytest.approx(0.5)  # noqa: PT018
    assert fewer.firings.recall <= 0.5


def test_atoms_have_a_sign_unless_codes_have_one(truth):
    turned = compare_truth(-truth.atoms, truth.codes, truth.atoms, truth.codes)
    signed = compare_truth(-truth.atoms, -truth.codes, truth.atoms, truth.codes)
    assert turned.mcc_atoms < 0.9
    assert signed.mcc_atoms == pytest.approx(1)
    assert signed.firings == compare_truth(truth.atoms, truth.codes, truth.atoms, truth.codes).firings


def test_a_feature_that_does_not_vary_is_left_out_of_codes(truth):
    codes = truth.codes.clone()
    codes[:, 5] = 0
    assert compare_truth(truth.atoms, codes, truth.atoms, codes).mcc == pytest.approx(1)
    assert compare_truth(truth.atoms, codes, truth.atoms, codes).firings.features == 5


def test_shapes_that_do_not_fit_are_refused(truth):
    with pytest.raises(InputError, match=r"atoms are \(6, 5\), codes \(400, 6\).*; expected \(D, K\)"):
        compare_truth(truth.atoms.mT, truth.codes, truth.atoms, truth.codes)
    with pytest.raises(InputError, match="none of the 6 true features varies in these 2 data; give more"):
        compare_truth(truth.atoms, truth.codes[:2], truth.atoms, torch.zeros(2, 6))
