"""Engines on every family of posterior: what fits runs and answers in that family, what does not is
refused by name."""

import pytest
import torch

from itervae import InputError
from itervae.inference import ENGINES, Amortized, Optimal, State, certificate, infer
from itervae.model import (
    CERTIFIABLE,
    CategoricalVAESettings,
    GaussianVAESettings,
    LaplaceVAESettings,
    PoissonVAESettings,
    build_model,
)

FAMILIES = {
    "poisson": PoissonVAESettings(latents=12),
    "gaussian": GaussianVAESettings(latents=12),
    "gaussian-relu": GaussianVAESettings(latents=12, activation="relu"),
    "gaussian-exp": GaussianVAESettings(latents=12, activation="exp"),
    "laplace": LaplaceVAESettings(latents=12),
    "categorical": CategoricalVAESettings(latents=12),
}
CERTIFIED = ("poisson", "gaussian", "categorical")
X = torch.rand(7, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PAIRS = [(family, name) for family in FAMILIES for name in ENGINES]


def made(family):
    return build_model(FAMILIES[family], (8, 8), seed=1).double()


def built(name, model):
    torch.manual_seed(0)
    return ENGINES[name].build(ENGINES[name].Settings(), model, model.shape).double()


def seeded(*arguments, **options):
    """`infer`, with the same random numbers in every call."""
    return infer(*arguments, generator=torch.Generator().manual_seed(1), **options)


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_runs_where_it_fits_and_is_refused_where_not(family, name):
    model = made(family)
    if not ENGINES[name].requires <= model.capabilities:
        with pytest.raises(InputError, match=rf"{ENGINES[name].__name__} needs a model with .*fitting\(model\) names"):
            infer(model, ENGINES[name](), X)
        return
    engine = built(name, model)
    result = seeded(model, engine, X)
    own = model.prior()
    assert type(result.posterior) is type(own)
    assert result.posterior.shape == (7, 12)
    assert result.posterior.u.shape == (7, len(own.u))
    assert torch.isfinite(model.free_energy(X, result.posterior).total).all()
    if not engine.stochastic:
        order = torch.arange(7).flip(0)
        torch.testing.assert_close(infer(model, engine, X[order]).posterior.u, result.posterior.u[order])
    # a prior per datum, equal to the static one, changes nothing; another one does
    same = seeded(model, engine, X, prior=own.like(own.u.expand(7, -1))).posterior.u
    torch.testing.assert_close(same, result.posterior.u)
    shift = torch.linspace(-1, 1, len(own.u), dtype=own.u.dtype)
    other = seeded(model, engine, X, prior=own.like(own.u.expand(7, -1) + shift)).posterior.u
    assert (other - same).abs().mean() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_is_proved_where_there_is_a_proof(family):
    model = made(family)
    posterior = infer(model, built("amortized", model), X).posterior
    found = certificate(model, X, posterior)
    assert (Optimal.requires <= model.capabilities) == (family in CERTIFIED)
    if family not in CERTIFIED:
        assert found.isnan().all()
        return
    best = infer(model, Optimal(tolerance=1e-9), X)
    assert (best.stats["certificate"] <= 1e-9).all()
    gap = model.free_energy(X, posterior).total - model.free_energy(X, best.posterior).total
    assert (gap > 0).all()
    assert (found >= gap - 1e-9).all()
    if family != "poisson":  # an equality, not a bound
        torch.testing.assert_close(found, gap)


def test_an_encoder_starts_at_the_prior_and_gives_a_residual():
    for family in FAMILIES:
        model = made(family)
        engine = built("amortized", model)
        with torch.no_grad():
            for parameter in engine.parameters():
                parameter.zero_()
            posterior = infer(model, engine, X).posterior
            kl = model.free_energy(X, posterior).kl
        torch.testing.assert_close(posterior.u, model.prior().u.detach().expand(7, -1))
        torch.testing.assert_close(kl, torch.zeros(7, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "categorical"])
def test_the_clamp_bounds_what_an_encoder_gives(family):
    """A thousandfold input: everything can still be drawn and its free energy is finite; hits are
    counted."""
    model = made(family)
    engine = built("amortized", model)
    with torch.no_grad():
        for parameter in engine.parameters():
            parameter.abs_()
        result = infer(model, engine, 1e3 * X)
        if family in ("gaussian", "gaussian-relu", "laplace"):
            assert result.posterior.log_scale.max() <= 6
        else:
            assert result.posterior.location.max() <= 6
        assert result.posterior.drawable.all()
        assert torch.isfinite(model.free_energy(X, result.posterior).total).all()
    assert (result.stats["clamped"] > 0).all()


def test_what_does_not_fit_the_family_is_refused():
    model = made("gaussian")
    engine = built("amortized", model)
    with pytest.raises(InputError, match="the prior is a RelaxedPoisson; this model has a Gaussian"):
        infer(model, engine, X, prior=made("poisson").prior())
    with pytest.raises(InputError, match=r"the state has shape \(7, 12\); expected \(7, 24\)"):
        infer(model, engine, X, state=State(torch.zeros(7, 12)))
    with pytest.raises(InputError, match=r"parameters of shape \(12,\); expected \(24,\)"):
        infer(model, engine, X, prior=model.prior().like(torch.zeros(12)))
    # an activation makes another family of it: its optimum is not that of the Gaussian
    assert not made("gaussian-relu").capabilities >= CERTIFIABLE
    assert Amortized.requires <= made("gaussian-relu").capabilities
