"""R² by its two definitions against scikit-learn's, and what is between them."""

import numpy as np
import pytest
import torch
from problems import random_data, random_model
from sklearn.metrics import r2_score as sklearn_r2

from itervae import InputError
from itervae.evaluation import encode, r_squared
from itervae.evaluation.summaries import reconstruction
from itervae.inference import Optimal


def r2_score(x, decoded, **options):
    return sklearn_r2(x.numpy(), decoded.numpy(), **options)  # older versions take no tensors


def test_pooled_and_per_datum_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    contrast = torch.rand(300, 1, generator=generator) * 3 + 0.1
    x = contrast * torch.randn(300, 12, generator=generator) + torch.arange(12)
    decoded = x + torch.randn(300, 12, generator=generator)
    found = r_squared((x - decoded).square().sum(1), x)
    # variance-weighted over the dimensions, each about its own mean over data: the pooled one
    assert found.pooled == pytest.approx(r2_score(x, decoded, multioutput="variance_weighted"), rel=1e-5)
    each = r2_score(x.T, decoded.T, multioutput="raw_values")  # a datum an output
    assert found.per_datum == pytest.approx(each.mean(), rel=1e-5)
    assert found.per_datum_se == pytest.approx(each.std(ddof=1) / 300**0.5, rel=1e-4)
    assert found.per_datum_median == pytest.approx(np.median(each), rel=1e-5)


def test_noise_of_one_size_moves_the_two_apart():
    """Half of the data of variance 100, half of 1, and noise of variance 2: pooled 1 − 2/50.5, per
    datum the mean of 1 − 2/100 and 1 − 2/1."""
    signs = torch.tensor([1.0, -1.0]).repeat(8)
    x = torch.stack([10 * signs, -10 * signs, signs, -signs])
    found = r_squared(torch.full((4,), 2.0 * 16), x)
    assert found.pooled == pytest.approx(1 - 2 / 50.5)
    assert found.per_datum == pytest.approx((1 - 2 / 100 + 1 - 2) / 2)


def test_a_constant_datum_has_no_r_squared_of_its_own():
    x = torch.tensor([[1.0, 1.0], [0.0, 2.0], [3.0, 3.0]])
    found = r_squared(torch.tensor([5.0, 1.0, 5.0]), x)
    assert found.per_datum == pytest.approx(1 - 1 / 2)
    assert found.per_datum_se is None
    assert found.pooled is not None
    with pytest.raises(InputError, match=r"error has shape \(2,\) and x \(3, 2\)"):
        r_squared(torch.zeros(2), x)


def test_draws_and_mean_rates_have_both():
    model = random_model(16, 24, log_rate=-1.0).float()
    x = random_data(model, 200)
    codes = encode(model, Optimal(), x, seed=3)
    found = reconstruction(codes, x)
    for name, z in {"mean": codes.mean, "sample": codes.sample}.items():
        assert z is not None
        decoded = (z @ model.dictionary.mT).detach()
        pooled = r2_score(x, decoded, multioutput="variance_weighted")
        each = r2_score(x.T, decoded.T, multioutput="raw_values")
        assert found[name]["r2_pooled"] == pytest.approx(pooled, rel=1e-4)
        assert found[name]["r2_per_datum"] == pytest.approx(each.mean(), rel=1e-4)
