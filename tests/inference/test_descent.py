"""The safeguards of a step: it is shortened where it overshoots, and κ does not follow rounding."""

import pytest
import torch
from problems import random_data, random_model

from itervae.inference import FISTAUnrolled, ISTAUnrolled, LCAUnrolled, Optimal, Problem, State, infer
from itervae.inference.energies.linear import rises
from itervae.inference.engines.descent import shortened
from itervae.inference.engines.ista import ProximalDescent
from itervae.model import ConvolutionalDecoder, GaussianLikelihood, GenerativeModel, PoissonPrior


@pytest.mark.parametrize("latents", [48, 96])  # by the Gram matrix, and by the residual
def test_a_step_that_overshoots_ends_where_f_is_lower_and_nearly_flat(latents):
    model = random_model(32, latents)
    x = random_data(model, 60)
    energy = Problem(model, x, model.prior()).energy
    generator = torch.Generator().manual_seed(0)
    u = model.prior.log_rate.detach().expand(60, -1) + torch.rand(60, latents, generator=generator, dtype=x.dtype)
    old = energy.evaluate(u)
    direction = -old.gradient / (1 + old.diagonal * old.mean)
    target = u + 2.5 * direction.clamp(-1, 1)
    found = shortened(energy, State(u, point=old), target, old.mean, old.data_gradient)
    cut = (found.u != target).any(-1)
    assert cut.any()
    again = energy.evaluate(found.u)  # what was read off the line is what an evaluation says
    for name in ("value", "mean", "data_gradient", "gradient"):
        torch.testing.assert_close(getattr(found.point, name), getattr(again, name))
    assert (found.point.value[cut] < found.whole.value[cut]).all()
    shares = torch.linspace(0, 1, 1001, dtype=x.dtype)[:, None, None]
    line = torch.lerp(old.mean, found.whole.mean, shares)  # (1001, B, K)
    values = torch.stack([energy.evaluate(mean.log()).value for mean in line])
    best = values.amin(0)
    gained, most = (old.value - found.point.value)[cut], (old.value - best)[cut]
    assert (gained > 0.8 * most).double().mean() > 0.9  # F' is not quite linear along the step
    assert (gained > 0).all()
    assert not rises(energy, old, found.point).any()


def test_where_nothing_overshoots_nothing_changes():
    model = random_model(32, 48)
    x = random_data(model, 5)
    energy = Problem(model, x, model.prior()).energy
    u = model.prior.log_rate.detach().expand(5, -1)
    old = energy.evaluate(u)
    target = u - 1e-3 * old.gradient
    assert torch.equal(shortened(energy, State(u, point=old), target, old.mean, old.data_gradient).u, target)


@pytest.mark.parametrize("engine", [LCAUnrolled(), FISTAUnrolled()])
def test_curvature_is_kept_after_arrival(engine):
    """Long after convergence κ is that of the last true steps, which a drop of F or a rise may no
    longer tell."""
    model = random_model(32, 48)
    x = random_data(model, 5)
    early, late = (infer(model, engine, x, steps=k).state.memory["damping"] for k in (100, 400))
    torch.testing.assert_close(early, late, rtol=0.3, atol=0)


@pytest.mark.parametrize("kind", [FISTAUnrolled, ISTAUnrolled])
def test_a_part_of_a_picture_that_bends_more_does_not_slow_down_the_rest(kind, monkeypatch):
    """A picture with much contrast in a corner: against one κ for all of it, and the optimum."""
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder((64, 64), 8, 6, stride=2, unit_norm=True)
    prior = PoissonPrior(8, -3.0, -2.0, places=decoder.places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(0.1), (64, 64)).double().requires_grad_(False)
    x = torch.randn(1, 64, 64, dtype=torch.float64)
    x[:, :16, :16] *= 5
    best = model.free_energy(x, infer(model, Optimal(tolerance=1e-3), x).posterior).total

    def gap():
        return (model.free_energy(x, infer(model, kind(20), x).posterior).total - best).item()

    own = gap()
    monkeypatch.setattr(ProximalDescent, "places", lambda self, energy: 1)
    assert 0 <= own < 0.2 * gap()
