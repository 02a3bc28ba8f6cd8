"""Values that are less sure than others, or not seen: leaving a value out is leaving out a row of
Φ, and a weight of 4 is a value and a row twice as large."""

import pytest
import torch
from families import seeded
from problems import linear_model, random_data, random_model
from torch.testing import assert_close

from itervae import InputError
from itervae.inference import ENGINES, Implicit, Optimal, State, Unroll, certificate, infer
from itervae.inference.engines.ista import ProximalDescent
from itervae.model import (
    BernoulliLikelihood,
    CategoricalPrior,
    Convolution,
    ConvolutionalDecoder,
    Dense,
    GaussianLikelihood,
    GaussianPrior,
    GenerativeModel,
    LaplacePrior,
    LinearDecoder,
    PoissonLikelihood,
    PoissonPrior,
    SparsityPrior,
)

SIZE, LATENTS, COUNT = 12, 16, 6
PRIORS = {
    "poisson": lambda: PoissonPrior(LATENTS, -2.0, -1.0),
    "gaussian": lambda: GaussianPrior(LATENTS),
    "laplace": lambda: LaplacePrior(LATENTS),
    "categorical": lambda: CategoricalPrior(LATENTS),
    "lasso": lambda: SparsityPrior(LATENTS, 0.4, signed=True),
}
STEPPING = ("lca-unrolled", "ista-unrolled", "fista-unrolled", "lista", "recurrent", "lca-ode", "optimal")


def model_of(prior, dictionary, bias=None, variance=0.5):
    """A linear model with a given dictionary (D, K)."""
    torch.manual_seed(3)
    own = PRIORS[prior]()
    decoder = LinearDecoder(*dictionary.shape, bias=bias is not None)
    likelihood = GaussianLikelihood(1.0 if prior == "lasso" else variance)
    model = GenerativeModel(own, decoder, likelihood, dictionary.shape[:1]).double().requires_grad_(False)
    decoder.weight.copy_(dictionary)
    if bias is not None:
        decoder.bias.copy_(bias)
    return model


def problem(seed=0):
    """Φ (D, K), data (B, D) and which of their values are seen, the last datum not at all."""
    generator = seeded(seed)
    dictionary = torch.randn(SIZE, LATENTS, generator=generator, dtype=torch.float64) / 3
    x = 2 * torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)
    seen = torch.rand(COUNT, SIZE, generator=generator) < 0.6
    seen[0], seen[-1] = True, False
    return dictionary, x, seen


def engine_of(name, model):
    torch.manual_seed(0)
    kind = ENGINES[name]
    return kind.build(kind.Settings(), model, model.shape).double()


@pytest.mark.parametrize("name", STEPPING)
@pytest.mark.parametrize("prior", PRIORS)
def test_not_seen_is_a_row_left_out(prior, name):
    dictionary, x, seen = problem()
    model = model_of(prior, dictionary)
    if not ENGINES[name].requires <= model.capabilities:
        pytest.skip("does not run on this family")
    engine = engine_of(name, model)
    lost = x.masked_fill(~seen, torch.nan)
    found = infer(model, engine, lost, precision=seen)
    energy = model.free_energy(lost, found.posterior, precision=seen).total
    for i in range(COUNT - 1):
        rows = model_of(prior, dictionary[seen[i]])
        alone, own = x[i : i + 1, seen[i]], infer(rows, engine, x[i : i + 1, seen[i]])
        assert_close(found.posterior.u[i : i + 1], own.posterior.u, rtol=1e-5, atol=1e-5)
        same = rows.free_energy(alone, rows.posterior(found.posterior.u[i : i + 1])).total
        assert_close(energy[i : i + 1], same, rtol=1e-12, atol=1e-12)
        proof = certificate(
            model,
            lost[i : i + 1],
            found.posterior.like(found.posterior.u[i : i + 1])
            if prior != "lasso"
            else model.posterior(found.posterior.u[i : i + 1]),
            precision=seen[i : i + 1],
        )
        other = certificate(rows, alone, rows.posterior(found.posterior.u[i : i + 1]))
        assert_close(proof, other, rtol=1e-6, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("prior", ["poisson", "gaussian", "categorical", "lasso"])
def test_of_what_is_not_seen_at_all_the_prior_is_the_best(prior):
    dictionary, x, seen = problem()
    model = model_of(prior, dictionary)
    found = infer(model, Optimal(), x, precision=seen)
    own = model.prior().mean if prior != "lasso" else torch.zeros(LATENTS).double()
    assert_close(found.posterior.mean[-1], own, rtol=1e-9, atol=1e-9)
    assert found.stats["certificate"].max() < 1e-6
    assert abs(model.free_energy(x, found.posterior, precision=seen).total[-1]) < 1e-9


@pytest.mark.parametrize("prior", PRIORS)
def test_a_weight_is_a_value_and_its_row_made_larger(prior):
    dictionary, x, _ = problem()
    root = torch.linspace(0.5, 2, SIZE, dtype=torch.float64)
    model, scaled = model_of(prior, dictionary), model_of(prior, root[:, None] * dictionary)
    engine = engine_of("optimal" if prior != "laplace" else "recurrent", model)
    for precision in (root.square(), root.square().expand(COUNT, -1).contiguous()):
        found, other = infer(model, engine, x, precision=precision), infer(scaled, engine, root * x)
        assert_close(found.posterior.u, other.posterior.u, rtol=1e-6, atol=1e-6)
        assert_close(
            model.free_energy(x, found.posterior, precision=precision).total,
            scaled.free_energy(root * x, found.posterior).total,
        )


@pytest.mark.parametrize("prior", PRIORS)
def test_the_bias_is_subtracted(prior):
    dictionary, x, seen = problem()
    bias = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    model, plain = model_of(prior, dictionary, bias), model_of(prior, dictionary)
    engine = engine_of("optimal" if prior != "laplace" else "recurrent", model)
    found, other = infer(model, engine, x, precision=seen), infer(plain, engine, x - bias, precision=seen)
    assert_close(found.posterior.u, other.posterior.u)
    assert_close(
        model.free_energy(x, found.posterior, precision=seen).total,
        plain.free_energy(x - bias, found.posterior, precision=seen).total,
    )
    assert_close(model.decode(found.posterior.mean), plain.decode(found.posterior.mean) + bias)


def test_certificates_bound_what_is_left_where_little_is_seen():
    model = random_model(32, 64, variance=0.01)
    x = random_data(model, 40)
    seen = torch.rand(40, 32, generator=seeded(1)) < 0.4
    best = infer(model, Optimal(tolerance=1e-10), x, precision=seen)
    assert best.stats["certificate"].max() < 1e-10
    least = model.free_energy(x, best.posterior, precision=seen).total
    for name in ("lca-unrolled", "fista-unrolled"):
        for steps in (1, 5, 40):
            found = infer(model, engine_of(name, model), x, steps=steps, precision=seen)
            left = model.free_energy(x, found.posterior, precision=seen).total - least
            assert (left <= found.stats["certificate"] + 1e-10).all()


@pytest.mark.parametrize("name", ["lca-unrolled", "ista-unrolled", "fista-unrolled"])
def test_compiled_steps_are_those_in_tensors(name):
    model = random_model(32, 48)
    x, precision = random_data(model, 9), torch.rand(9, 32, generator=seeded(1)).double() * 2
    engine = engine_of(name, model)
    with torch.no_grad():
        compiled = infer(model, engine, x, precision=precision)
    in_tensors = infer(model, engine, x, precision=precision.clone().requires_grad_())
    assert_close(compiled.posterior.u, in_tensors.posterior.u.detach(), rtol=1e-9, atol=1e-9)


def test_data_in_parts_have_their_own_weights(monkeypatch):
    model = random_model(16, 24)
    x, precision = random_data(model, 30), torch.rand(30, 16, generator=seeded(1)).double()
    whole = infer(model, engine_of("lca-unrolled", model), x, precision=precision)
    monkeypatch.setattr("itervae.inference.driver.ROWS_AT_ONCE", 7)
    parts = infer(model, engine_of("lca-unrolled", model), x, precision=precision)
    assert_close(parts.posterior.u, whole.posterior.u)


def test_gradients_through_the_optimum_are_those_through_the_steps():
    dictionary, x, seen = problem()
    model = model_of("poisson", dictionary, torch.zeros(SIZE).double()).requires_grad_(True)
    found = []
    for mode, engine in ((Implicit(), Optimal(tolerance=1e-12)), (Unroll(), engine_of("lca-unrolled", model))):
        answer = infer(model, engine, x, precision=seen, steps=400, gradient=mode)
        loss = answer.posterior.mean.square().sum()
        found.append(torch.autograd.grad(loss, [model.decoder.weight, model.decoder.bias, model.prior.log_rate]))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_convolution_with_weights_is_the_matrix_of_its_columns_with_weights(monkeypatch):
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder((2, 9, 8), 3, (4, 3), stride=2, bias=True)
    prior = PoissonPrior(3, -2.0, -1.0).at(decoder.places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(), (2, 9, 8)).double().requires_grad_(False)
    decoder.bias.copy_(torch.tensor([0.3, -0.2]))
    operator = decoder.operator()
    assert isinstance(operator, Convolution)
    matrix = operator.forward(torch.eye(operator.latents).double()).mT
    dense = linear_model(matrix, log_rate=model.prior().log_rate)
    bias = torch.tensor([0.3, -0.2]).double().repeat_interleave(72)
    generator = seeded(0)
    x, precision = torch.randn(4, 144, generator=generator).double(), torch.rand(4, 144, generator=generator).double()
    precision[precision < 0.4] = 0
    monkeypatch.setattr(ProximalDescent, "places", lambda self, energy: 1)  # one κ for a datum, as of a matrix
    for name in ("lca-unrolled", "fista-unrolled", "optimal"):
        engine = engine_of(name, model)
        one = infer(model, engine, x, precision=precision)
        other = infer(dense, engine_of(name, dense), x - bias, precision=precision)
        tolerance = 1e-5 if name == "optimal" else 1e-10
        assert_close(one.posterior.u, other.posterior.u, rtol=tolerance, atol=tolerance)
        assert_close(
            certificate(model, x, one.posterior, precision=precision),
            certificate(dense, x - bias, one.posterior, precision=precision),
            rtol=1e-6,
            atol=1e-10,
        )
    assert one.stats["certificate"].max() < 1e-6


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli", "poisson"])
def test_sampled_free_energies_leave_out_what_is_not_seen(kind):
    """−log p(x | z) of the values that are seen, by torch's own distributions."""
    generator = seeded(0)
    likelihood = {
        "gaussian": GaussianLikelihood(0.3, learned=True),
        "bernoulli": BernoulliLikelihood(),
        "poisson": PoissonLikelihood(5, "exp"),
    }[kind]
    output = torch.randn(4, 5, generator=generator)
    x = {"gaussian": torch.randn(4, 5, generator=generator)}.get(kind, torch.ones(4, 5))
    seen = torch.rand(4, 5, generator=generator) < 0.5
    law = {
        "gaussian": torch.distributions.Normal(output, 0.3**0.5),
        "bernoulli": torch.distributions.Bernoulli(logits=output),
        "poisson": torch.distributions.Poisson(output.exp()),
    }[kind]
    expected = -(law.log_prob(x) * seen).sum(1)
    assert_close(likelihood.negative_log_likelihood(x, output, seen.float()), expected)


def test_weights_of_a_learned_variance_are_those_of_its_normalizer():
    likelihood = GaussianLikelihood(0.3, learned=True)
    output, x, precision = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0.5, 2.0, 4.0])
    expected = -torch.distributions.Normal(output, (0.3 / precision) ** 0.5).log_prob(x).sum(1)
    assert_close(likelihood.negative_log_likelihood(x, output, precision), expected)


@pytest.mark.parametrize("prior", ["poisson", "gaussian", "laplace", "categorical"])
def test_variances_of_each_value_are_data_and_rows_in_their_units(prior):
    dictionary, x, seen = problem()
    deviation = torch.linspace(0.3, 2, SIZE, dtype=torch.float64)
    model, plain = model_of(prior, dictionary), model_of(prior, dictionary / deviation[:, None], variance=1.0)
    model.likelihood = GaussianLikelihood(size=SIZE).double().requires_grad_(False)
    model.likelihood.log_variance.copy_(2 * deviation.log())
    engine = engine_of("optimal" if prior != "laplace" else "recurrent", model)
    for precision in (None, seen):
        found = infer(model, engine, x, precision=precision)
        other = infer(plain, engine, x / deviation, precision=precision)
        assert_close(found.posterior.u, other.posterior.u, rtol=1e-6, atol=1e-6)
        assert_close(
            model.free_energy(x, found.posterior, precision=precision).total,
            plain.free_energy(x / deviation, found.posterior, precision=precision).total,
        )


def test_learned_variances_are_at_their_best_where_the_gradient_vanishes():
    """Of a posterior without variance, σ_d² is the mean of the squared error of value d."""
    dictionary, x, seen = problem()
    model = model_of("poisson", dictionary)
    model.likelihood = GaussianLikelihood(learned=True, size=SIZE).double()
    silent = model.posterior(torch.full((COUNT, LATENTS), -40.0).double())
    with torch.no_grad():
        model.likelihood.log_variance.copy_(((x.square() * seen).sum(0) / seen.sum(0)).log())
    model.free_energy(x, silent, precision=seen).total.sum().backward()
    assert model.likelihood.log_variance.grad.abs().max() < 1e-10
    with pytest.raises(InputError, match="the likelihood has 5 variances"):
        GenerativeModel(PoissonPrior(4), LinearDecoder(SIZE, 4), GaussianLikelihood(size=5), (SIZE,))


def test_engines_without_a_closed_form_do_not_see_what_is_lost():
    dictionary, x, seen = problem()
    model = model_of("poisson", dictionary)
    for name in ("spiking-lca", "amortized", "semi-amortized"):
        engine = engine_of(name, model)
        one, other = (
            infer(model, engine, x.masked_fill(~seen, value), precision=seen, generator=seeded(0)).posterior.u
            for value in (torch.nan, 7.0)
        )
        assert_close(one, other, rtol=0, atol=0)
        assert one.isfinite().all()


def test_weighted_operators_are_adjoint_and_have_their_norms():
    generator = seeded(0)
    operator = Dense(torch.randn(5, 7, generator=generator).double())
    root = torch.rand(3, 5, generator=generator).double()
    weighted = operator.weighted(root)
    z, r = torch.randn(3, 7, generator=generator).double(), torch.randn(3, 5, generator=generator).double()
    assert_close((weighted.forward(z) * r).sum(1), (z * weighted.adjoint(r)).sum(1))
    expected = torch.stack([(row[:, None] * operator.dictionary).square().sum(0) for row in root])
    assert_close(weighted.atom_norms(), expected)
    assert_close(operator.weighted(root[0]).dictionary, root[0, :, None] * operator.dictionary)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (torch.ones(COUNT, 5), r"precision has shape \(6, 5\); expected \(6, 12\)"),
        (torch.ones(COUNT), r"precision has shape \(6,\); expected \(6, 12\)"),
        (-torch.ones(SIZE), "precision holds -1, one of 12 such; expected finite numbers ≥ 0: use 0"),
        (torch.full((SIZE,), torch.nan), "precision holds nan, one of 12 such; expected"),
        ("all", "precision is 'all'; expected a tensor"),
    ],
)
def test_what_is_no_precision_is_refused(precision, message):
    dictionary, x, _ = problem()
    model = model_of("poisson", dictionary)
    found = infer(model, Optimal(), x)
    for call in (
        lambda: infer(model, Optimal(), x, precision=precision),
        lambda: model.free_energy(x, found.posterior, precision=precision),
        lambda: certificate(model, x, found.posterior, precision=precision),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(InputError, match="x has NaN or infinite values in 6 of 6 data"):
        infer(model, Optimal(), x * torch.nan, state=State(found.posterior.u))
