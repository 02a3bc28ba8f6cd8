"""Active units: counts at their thresholds, the histogram, and one rule for every family."""

import numpy as np
import pytest
import torch
from problems import build_engine

from itervae import InputError
from itervae.distributions import poisson_kl
from itervae.evaluation.codes import encode
from itervae.evaluation.units import active_units
from itervae.model import MODELS, build_model


def test_counts_at_every_threshold():
    report = active_units(torch.tensor([0.05, 0.0, 5e-4, 0.5, 5e-3, -1e-9]))
    assert (report.active, report.latents, report.fraction) == (2, 6, pytest.approx(2 / 6))
    expected = {"0.001": 3 / 6, "0.01": 2 / 6, "0.1": 1 / 6}
    assert report.fraction_above == pytest.approx(expected)
    assert report.kl == pytest.approx([0.5, 0.05, 5e-3, 5e-4, 0.0, 0.0])


def test_histogram_is_that_of_numpy_and_loses_no_unit():
    kl = torch.logspace(-7.9, 1.9, 200, dtype=torch.float64)
    report = active_units(kl)
    expected, edges = np.histogram(kl.log10(), np.arange(-8, 2.01, 0.25))
    np.testing.assert_allclose(report.log10_edges, edges)
    assert report.counts == expected.tolist()
    beyond = active_units(torch.tensor([0.0, 1e-20, 1e-7, 60.0, 1e5]))
    assert (beyond.counts[0], beyond.counts[-1], sum(beyond.counts)) == (2, 2, 5)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-vae")])
def test_of_every_family_an_answer_that_is_the_prior_has_no_active_unit(name):
    model = build_model(MODELS[name](latents=6), (5,))
    engine = build_engine("amortized", model)
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    codes = encode(model, engine, x)
    assert active_units(codes.unit_kl).kl[0] > 1e-5
    with torch.no_grad():
        for parameter in engine.parameters():
            parameter.zero_()  # the encoder then answers with the prior, whatever the data
    prior = active_units(encode(model, engine, x).unit_kl)
    assert prior.kl == pytest.approx([0.0] * 6, abs=1e-6)
    assert prior.active == 0


def test_kl_of_a_poisson_unit_is_its_closed_form():
    model = build_model(MODELS["poisson-vae"](latents=6), (5,))
    engine = build_engine("amortized", model)
    x = torch.randn(1500, 5, generator=torch.Generator().manual_seed(0))  # more than one batch
    codes = encode(model, engine, x)
    log_rate = codes.mean.log()
    expected = poisson_kl(log_rate, model.prior.log_rate.detach()).mean(0)
    torch.testing.assert_close(codes.unit_kl.float(), expected, rtol=1e-4, atol=1e-6)
    assert codes.unit_kl.sum().item() == pytest.approx(codes.kl.mean().item(), rel=1e-5)


def test_errors():
    with pytest.raises(InputError, match="1 values that are not finite"):
        active_units(torch.tensor([1.0, torch.nan]))
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        active_units(torch.ones(2, 3))
