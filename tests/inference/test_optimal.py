"""The certified optimum where problems are hard: every certificate below 1e-6 nats, or the report
says so."""

import pytest
import torch
from problems import random_data, random_model

from itervae.inference import Optimal, infer
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.systems.implicit import solve_transposed
from itervae.inference.systems.newton import newton_direction, newton_step


@pytest.mark.parametrize("latents", [24, 96], ids=["undercomplete", "overcomplete"])
@pytest.mark.parametrize(
    ("variance", "beta", "prior_rate", "scale"),
    [
        (1e-3, 1.0, 0.007, 2.0),
        (10.0, 1.0, 0.007, 2.0),
        (0.5, 1e-3, 0.007, 2.0),
        (0.5, 10.0, 0.007, 2.0),
        (1e-3, 1e-3, 0.007, 2.0),
        (0.5, 1.0, 1e-8, 2.0),
        (0.5, 1.0, 50.0, 2.0),
        (0.5, 1.0, 0.007, 0.0),
        (0.5, 1.0, 0.007, 200.0),
        (1e-3, 1e-3, 1e-8, 2.0),
        (1e-3, 1e-3, 1e-8, 200.0),
    ],
)
def test_every_datum_is_certified_at_extremes(latents, variance, beta, prior_rate, scale):
    log_rate = torch.tensor(prior_rate, dtype=torch.float64).log()
    model = random_model(48, latents, variance=variance, beta=beta, log_rate=log_rate)
    with torch.no_grad():
        model.dictionary[:, 0] = 0
        model.dictionary[:, 2] = model.dictionary[:, 1]
    x = random_data(model, 6, scale=scale)
    found = infer(model, Optimal(), x)
    assert (found.stats["certificate"] <= 1e-6).all()
    # the certificate bounds what any other point could gain: perturbed answers are no better
    best = model.free_energy(x, found.posterior).total
    for seed in range(3):
        noise = torch.randn(x.shape[0], latents, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        other = model.free_energy(x, model.posterior(found.posterior.log_rate + 0.1 * noise)).total
        assert (other >= best - 2e-6 - 1e-12 * best.abs()).all()


def test_not_reached_is_said():
    model = random_model(48, 96, variance=1e-3)
    found = infer(model, Optimal(steps=10), random_data(model, 4))
    assert (found.stats["certificate"] > 1e-6).any()
    assert (found.stats["steps"] <= 10).all()


@pytest.mark.parametrize("latents", [20, 60])
def test_newton_direction_solves_its_system(latents):
    model = random_model(32, latents, variance=0.2, beta=0.6)
    x = random_data(model, 3)
    energy = PoissonEnergy(model, x, model.prior().detach())
    log_rate = torch.randn(3, latents, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 2
    point = energy.evaluate(log_rate)
    direction = newton_direction(energy, point)
    phi = model.dictionary.detach()
    for row in range(3):
        hessian = torch.diag(model.beta / point.mean[row]) + phi.T @ phi / model.likelihood.variance
        expected = -torch.linalg.solve(hessian, point.gradient[row]) / point.mean[row]
        torch.testing.assert_close(direction[row], expected.detach(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("latents", [20, 60])
def test_a_system_that_rounding_spoils_is_that_of_its_datum_alone(latents):
    model = random_model(32, latents).requires_grad_(False)
    model.dictionary[:, 1:] = model.dictionary[:, :1] * torch.linspace(1, 2, latents - 1, dtype=torch.float64)
    x = random_data(model, 3)
    energy = PoissonEnergy(model, x, model.prior())
    log_rate = model.prior.log_rate.expand(3, -1).clone()
    alone = newton_direction(energy, energy.evaluate(log_rate))
    log_rate[1] = 70.0
    point = energy.evaluate(log_rate)
    direction = newton_direction(energy, point)
    assert (direction[1] == 0).all()
    torch.testing.assert_close(direction[::2], alone[::2])
    after, reached = newton_step(energy, log_rate, point)
    assert torch.equal(after[1], log_rate[1])
    assert (reached.value[::2] < point.value[::2]).all()
    with pytest.warns(UserWarning, match="1 of 3 data have a linear system that is singular"):
        answer = solve_transposed(energy, log_rate, torch.ones_like(log_rate))
    assert (answer[1] == 0).all()
    assert answer.isfinite().all()


def test_finished_data_keep_their_answer():
    """A batch of easy and hard data gives each the answer it gets alone, to the rounding of the
    first steps."""
    model = random_model(48, 96)
    x = random_data(model, 6) * torch.tensor([0.0, 0.1, 1.0, 10.0, 100.0, 1.0], dtype=torch.float64)[:, None]
    together = infer(model, Optimal(tolerance=1e-12), x)
    assert together.stats["steps"].unique().numel() > 2
    for row in range(6):
        alone = infer(model, Optimal(tolerance=1e-12), x[row : row + 1])
        torch.testing.assert_close(alone.posterior.log_rate[0], together.posterior.log_rate[row], rtol=1e-6, atol=1e-6)
        assert alone.stats["steps"][0] == together.stats["steps"][row]
