"""Estimators of the reconstruction term: values and gradients against the closed form, and that
against sampling.

On a linear decoder E‖x − Φz‖² is quadratic in z, so a relaxation's bias is known from the moments
of its samples.
"""

import math

import pytest
import torch
from families import (
    FAMILIES,
    LOCATION_SCALE,
    assert_mean,
    linear_model_of,
    output_variance,
    parameters,
    prior_of,
    seeded,
)
from problems import any_model
from torch.testing import assert_close

from itervae import InputError
from itervae.distributions import total_kl
from itervae.model import estimators_for
from itervae.model.settings import MODELS, GaussianVAESettings, VAESettings

every_family = pytest.mark.parametrize("name", FAMILIES)
DISCRETE = ("poisson", "categorical")
N = 1 << 15


def problem(name, seed=2):
    """A model, one datum (1, D) and posterior parameters (1, parts · K)."""
    model = linear_model_of(name)
    x = 1.5 * torch.randn(1, model.size, generator=seeded(seed), dtype=torch.float64)
    return model, x, parameters(name, 1, model.latents, seed=seed + 1)


def draws_of(name, estimator, temperature=0.0, samples=1, n=N, seed=4):
    """Values (n,) and gradients in the parameters (n, parts · K) of draws, then value and gradient
    in closed form."""
    model, x, u = problem(name)
    many = u.expand(n, -1).clone().requires_grad_()
    value = model.free_energy(
        x.expand(n, -1),
        model.posterior(many, temperature),
        estimator=estimator,
        samples=samples,
        generator=seeded(seed),
    ).reconstruction
    (gradient,) = torch.autograd.grad(value.sum(), many)
    u.requires_grad_()
    exact = model.free_energy(x, model.posterior(u), estimator="exact").reconstruction
    (expected,) = torch.autograd.grad(exact.sum(), u)
    return value.detach(), gradient, exact.detach()[0], expected[0]


# The closed form


@every_family
def test_exact_is_the_mean_of_samples(name):
    model, x, u = problem(name)
    q = model.posterior(u)
    assert model.estimators[0] == "exact"
    exact = model.free_energy(x, q).reconstruction
    assert_close(model.free_energy(x, q, estimator="exact").reconstruction, exact)
    z = q.sample((4 * N,), seeded(3))
    values = (x - z @ model.dictionary.mT).square().sum(-1) / (2 * 0.8)
    assert_mean(values, exact)
    spread = output_variance(q, model.dictionary) / (2 * 0.8)
    assert (spread > 20 * values.std() / math.sqrt(len(values))).all()  # so that its absence would be seen


@every_family
def test_gradients_of_exact_against_finite_differences(name):
    model, x, u = problem(name)
    x, u = x.expand(2, -1), torch.cat([u, parameters(name, 1, model.latents, seed=9)]).requires_grad_()
    weight = model.dictionary.detach().clone().requires_grad_()

    def exact(u, weight):
        return torch.func.functional_call(
            Reconstruction(model), {"model.decoder.weight": weight}, (x, u), {"estimator": "exact"}
        )

    assert torch.autograd.gradcheck(exact, (u, weight))


class Reconstruction(torch.nn.Module):
    """The reconstruction term of a model as a module, so that its parameters can be exchanged."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, u, **options):
        return self.model.free_energy(x, self.model.posterior(u), **options).reconstruction


# Unbiased estimators


@pytest.mark.parametrize(
    ("name", "estimator", "samples"),
    [(name, "pathwise", 1) for name in LOCATION_SCALE]
    + [(name, "pathwise", 3) for name in ("gaussian", "rectified")]
    + [(name, "score", samples) for name in DISCRETE for samples in (2, 5)],
)
def test_value_and_gradient_are_unbiased(name, estimator, samples):
    value, gradient, exact, expected = draws_of(name, estimator, samples=samples)
    assert_mean(value, exact)
    assert_mean(gradient, expected)
    noise = gradient.std(0).norm() / math.sqrt(len(gradient))
    assert noise < 0.1 * expected.norm()  # so that a bias would be seen


@pytest.mark.parametrize("name", DISCRETE)
def test_the_score_has_the_value_of_the_mean_and_its_decoder_gradient(name):
    model, x, u = problem(name)
    x, u = x.expand(7, -1), u.expand(7, -1).clone().requires_grad_()
    found = model.free_energy(x, model.posterior(u), estimator="score", samples=6, generator=seeded(5)).reconstruction
    z = model.posterior(u).sample((6,), seeded(5))
    plain = ((x - z @ model.dictionary.mT).square().sum(-1) / (2 * 0.8)).mean(0)
    assert_close(found, plain)
    gradients = [torch.autograd.grad(value.sum(), model.decoder.weight)[0] for value in (found, plain)]
    assert gradients[1].abs().sum() > 1
    assert_close(*gradients)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_score_is_williams_with_the_mean_of_the_others(name):
    """∇ = 1/S Σ_s (f_s − mean of f over the others) ∇ log q(z_s), written as a loop with torch's
    own densities."""
    model, x, u = problem(name)
    u.requires_grad_()
    found = model.free_energy(x, model.posterior(u), estimator="score", samples=4, generator=seeded(6)).reconstruction
    (gradient,) = torch.autograd.grad(found.sum(), u)
    z = model.posterior(u).sample((4,), seeded(6))
    values = (x - z @ model.dictionary.mT).square().sum(-1).detach() / (2 * 0.8)
    expected = torch.zeros_like(u)
    for s in range(4):
        poisson = name == "poisson"
        law = torch.distributions.Poisson(u.exp()) if poisson else torch.distributions.OneHotCategorical(logits=u)
        (slope,) = torch.autograd.grad(law.log_prob(z[s]).sum(), u)
        others = [values[other] for other in range(4) if other != s]
        expected += (values[s] - sum(others) / 3) * slope / 4
    assert expected.abs().sum() > 0.1
    assert_close(gradient, expected)


def test_the_score_does_not_see_a_constant_of_the_value():
    """Its baseline removes it: the gradient is that without the learned variance's normalizer, of
    thousands of nats."""
    gradients = []
    for constant in (0.0, 1e4):
        model, x, u = problem("poisson")
        likelihood = model.likelihood
        model.likelihood.negative_log_likelihood = lambda x, output, precision, own=likelihood, add=constant: (
            type(own).negative_log_likelihood(own, x, output, precision) + add
        )
        u.requires_grad_()
        value = model.free_energy(
            x, model.posterior(u), estimator="score", samples=3, generator=seeded(7)
        ).reconstruction
        gradients.append(torch.autograd.grad(value.sum(), u)[0])
    assert gradients[0].abs().sum() > 0.1
    assert_close(*gradients)


# Biased estimators, against what theory says of them


def relaxed_theory(model, x, u, mean, variance):
    """Value and gradient where z has mean `mean`·λ and variance `variance`·λ, with ‖x − Φμ‖² +
    c·v."""
    u = u.clone().requires_grad_()
    rate = u.exp()
    norms = model.dictionary.square().sum(0).detach()
    value = (x - mean * rate @ model.dictionary.detach().mT).square().sum(-1) + variance * rate @ norms
    value = value / (2 * 0.8)
    return value.detach()[0], torch.autograd.grad(value.sum(), u)[0][0]


@pytest.mark.parametrize("temperature", [0.02, 0.3, 1.0])
def test_eat_has_the_bias_of_its_moments(temperature):
    """Cubic: mean λ, variance λ(1 − 9τ/35), so that the gradient is off by −c λ·9τ/70σ² and no
    more."""
    model, x, u = problem("poisson")
    value, gradient, exact, without = draws_of("poisson", "eat", temperature)
    expected = relaxed_theory(model, x, u, 1.0, 1 - 9 * temperature / 35)
    assert_mean(value, expected[0])
    assert_mean(gradient, expected[1])
    norms = model.dictionary.detach().square().sum(0)
    bias = -norms * u[0].exp() * 9 * temperature / (70 * 0.8)
    assert_close(expected[1] - without, bias)
    if temperature == 0.02:
        assert bias.norm() < 0.01 * without.norm()
        assert_mean(value, exact + bias.sum())
    if temperature == 1.0:
        with pytest.raises(AssertionError):
            assert_mean(gradient, without)


@pytest.mark.parametrize("temperature", [0.02, 0.3, 1.0])
def test_straight_through_counts_have_the_bias_of_their_covariance(temperature):
    """An unbiased value; of the gradient c·Cov(N, ∂z/∂log λ)/σ² with covariance λ(1/2 − 3τ/16) in
    place of λ/2."""
    model, _, u = problem("poisson")
    value, gradient, exact, without = draws_of("poisson", "straight-through", temperature)
    assert_mean(value, exact)
    norms = model.dictionary.detach().square().sum(0)
    assert_mean(gradient, without - norms * u[0].exp() * 3 * temperature / (16 * 0.8))


@pytest.mark.parametrize(("name", "temperature"), [("poisson", 0.1), ("categorical", 0.1)])
def test_cold_relaxed_choices_are_nearly_unbiased(name, temperature):
    value, gradient, exact, expected = draws_of(name, "gumbel-softmax", temperature, n=2 * N)
    error = gradient.std(0) / math.sqrt(len(gradient))
    assert (value.mean() - exact).abs() < 0.05 * exact
    assert ((gradient.mean(0) - expected).norm() - 3 * error.norm()) < 0.15 * expected.norm()
    cosine = torch.nn.functional.cosine_similarity(gradient.mean(0), expected, dim=0)
    assert cosine > 0.97


@pytest.mark.parametrize("name", DISCRETE)
def test_straight_through_decodes_integers(name):
    model, x, u = problem(name)
    seen = []
    model.decoder.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].detach()))
    u = u.expand(50, -1).clone().requires_grad_()
    q = model.posterior(u, 0.5)
    value = model.free_energy(x.expand(50, -1), q, estimator="straight-through", samples=3, generator=seeded(8))
    (z,) = seen
    assert z.shape == (3, 50, model.latents)
    assert torch.equal(z, z.round())
    assert z.min() == 0
    if name == "categorical":
        assert torch.equal(z.sum(-1), torch.ones(3, 50, dtype=torch.float64))
    assert_close(
        value.reconstruction.detach(),
        ((x - z @ model.dictionary.detach().mT).square().sum(-1) / (2 * 0.8)).mean(0),
    )
    (gradient,) = torch.autograd.grad(value.reconstruction.sum(), u)
    assert gradient.abs().sum() > 1


@every_family
def test_every_estimator_is_a_mean_over_samples_with_a_graph(name):
    """With many samples, the value nears the exact one where the estimator has an unbiased
    value."""
    model, x, u = problem(name)
    u.requires_grad_()
    exact = model.free_energy(x, model.posterior(u)).reconstruction
    for estimator in model.estimators[1:]:
        q = model.posterior(u, 0.02)
        values = model.free_energy(x, q, estimator=estimator, samples=40_000, generator=seeded(9)).reconstruction
        assert values.shape == (1,)
        assert values.item() == pytest.approx(exact.item(), rel=0.05), estimator
        gradients = torch.autograd.grad(values.sum(), [u, model.decoder.weight])
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients), estimator


# Which estimators there are


def settings_of(name, **options):
    if name in ("rectified", "log-normal"):
        return GaussianVAESettings(activation={"rectified": "relu", "log-normal": "exp"}[name], **options)
    kind = MODELS[f"{name}-vae"]
    assert issubclass(kind, VAESettings)
    return kind(**options)


OFFERED = {
    "poisson": ("eat", "straight-through", "gumbel-softmax", "score"),
    "categorical": ("gumbel-softmax", "straight-through", "score"),
    **{name: ("pathwise",) for name in LOCATION_SCALE},
}


@every_family
def test_estimators_offered(name):
    assert estimators_for(settings_of(name)) == ("exact", *OFFERED[name])
    assert estimators_for(settings_of(name, decoder="mlp")) == OFFERED[name]
    assert estimators_for(settings_of(name, likelihood="bernoulli")) == OFFERED[name]
    assert linear_model_of(name).estimators == ("exact", *OFFERED[name])


@every_family
def test_an_estimator_of_another_family_is_refused(name):
    model, x, u = problem(name)
    for wrong in {"eat", "pathwise", "score", "gumbel-softmax", "straight-through"} - set(OFFERED[name]):
        with pytest.raises(InputError, match=f"estimator is '{wrong}'; this model has exact, {OFFERED[name][0]}"):
            model.free_energy(x, model.posterior(u, 0.5), estimator=wrong)


@pytest.mark.parametrize("name", DISCRETE)
def test_the_score_of_one_sample_is_refused(name):
    model, x, u = problem(name)
    with pytest.raises(InputError, match="samples is 1; the score estimator needs at least 2"):
        model.free_energy(x, model.posterior(u), estimator="score")


def test_exact_is_refused_without_a_closed_form():
    for model in (any_model("mlp"), any_model("linear", "bernoulli")):
        with pytest.raises(InputError, match=r"linear decoder and a Gaussian likelihood: use estimator eat"):
            model.free_energy(torch.rand(2, 64), model.posterior(torch.zeros(2, 24)), estimator="exact")


# Priors, fixed and learned


@every_family
@pytest.mark.parametrize("learned", [False, True])
def test_priors_are_learned_or_fixed(name, learned):
    prior = prior_of(name, 5, learned)
    buffers, learnable = dict(prior.named_buffers()), dict(prior.named_parameters())
    assert (len(learnable) > 0) == learned
    assert set(buffers if not learned else learnable) == set(prior.state_dict())
    q = FAMILIES[name](parameters(name, 4, 5, dtype=torch.float32))
    kl = total_kl(q, prior()).sum()
    assert kl.requires_grad == learned
    if learned:
        kl.backward()
        for key, parameter in learnable.items():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all()
            assert (parameter.grad != 0).all(), key
