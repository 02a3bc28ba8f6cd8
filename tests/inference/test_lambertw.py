"""The Lambert W function against its definition and its derivative."""

import pytest
import torch
from scipy.special import wrightomega

from itervae.inference.energies.lambertw import _guess, log_lambertw_exp


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 4e-16), (torch.float32, 3e-7)])
def test_solves_its_equation(dtype, tolerance):
    odd = torch.tensor([-1e30, -1e4, -20.0, -19.999, 1e3, 1e6, 1e30])
    s = torch.cat([torch.linspace(-60, 60, 100_001), odd]).to(dtype)  # more than are taken at a time
    ell = log_lambertw_exp(s)
    # ℓ + e^ℓ = s; the error in ℓ is the residual over the slope 1 + e^ℓ
    error = (ell + ell.exp() - s) / (1 + ell.exp())
    assert (error.abs() <= tolerance * s.abs().clamp_min(1)).all()


def test_where_the_iteration_starts():
    s = torch.cat([torch.linspace(-60, 60, 20_001), torch.logspace(2, 12, 200)]).double()
    true = torch.from_numpy(wrightomega(s.numpy()).real)  # W(e^s)
    assert (_guess(s) / true - 1).abs().max() < 0.012


def test_derivatives():
    s = torch.linspace(-30, 30, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_lambertw_exp, s)
    assert torch.autograd.gradgradcheck(log_lambertw_exp, s)
