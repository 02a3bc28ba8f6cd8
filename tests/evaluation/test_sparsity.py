"""Lifetime sparsity at its known values."""

import pytest
import torch

from itervae import InputError
from itervae.evaluation.sparsity import lifetime_sparsity, population_sparsity


def test_known_values():
    count = 10
    same = torch.full((count,), 3.0)
    once = torch.zeros(count)
    once[4] = 7.0
    silent = torch.zeros(count)
    half = torch.tensor([1.0] * 5 + [0.0] * 5)  # (1 − 5²/(10·5)) / (1 − 1/10)
    found = lifetime_sparsity(torch.stack([same, once, silent, half, -half], 1))
    expected = torch.tensor([0.0, 1.0, 1.0, 0.5 / 0.9, 0.5 / 0.9], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_scale_of_a_unit_changes_nothing():
    codes = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    scaled = codes.double() * torch.tensor([1e-170, 1.0, 1e150], dtype=torch.float64)
    torch.testing.assert_close(lifetime_sparsity(scaled), lifetime_sparsity(codes))


def test_errors():
    with pytest.raises(InputError, match=r"codes have shape \(1, 3\)"):
        lifetime_sparsity(torch.ones(1, 3))


def test_population_sparsity_at_its_known_values():
    one = torch.zeros(8)
    one[3] = -2.0
    half = torch.tensor([1.0] * 4 + [0.0] * 4)  # (1 − 4²/(8·4)) / (1 − 1/8)
    found = population_sparsity(torch.stack([one, torch.full((8,), 5.0), torch.zeros(8), half]))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0, 0.5 / 0.875], dtype=torch.float64))


def test_population_sparsity_needs_units():
    with pytest.raises(InputError, match=r"codes have shape \(5, 1\); expected \(M, K\) with at least 2 units"):
        population_sparsity(torch.ones(5, 1))
