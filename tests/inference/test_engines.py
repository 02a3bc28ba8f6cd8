"""One contract for the whole registry: an engine is tested by being listed."""

import pytest
import torch
from problems import any_model, build_engine, random_data, random_model

from itervae import InputError
from itervae.distributions import RelaxedPoisson
from itervae.inference import ENGINES, Envelope, State, check_named, driver, fitting, infer

ITERATIVE = [name for name, kind in ENGINES.items() if kind.steps or getattr(kind.Settings(), "steps", 0)]
FIXED = [name for name in ITERATIVE if getattr(ENGINES[name].Settings(), "tolerance", None) is None]
"""Engines that take the steps that they are asked for; the others stop each datum by its own
certificate."""
STOCHASTIC = [name for name, kind in ENGINES.items() if kind.stochastic]
DETERMINISTIC = [name for name in ENGINES if name not in STOCHASTIC]
DESCENDING = [name for name in FIXED if name not in STOCHASTIC]
KINDS = {"linear": ("linear", "gaussian"), "mlp": ("mlp", "gaussian"), "conv": ("conv", "bernoulli")}


def seeded(*arguments, seed=1, **options):
    """`infer`, with randomness from a generator of its own."""
    return infer(*arguments, generator=torch.Generator().manual_seed(seed), **options)


def pairs():
    for name, kind in ENGINES.items():
        for case, (decoder, likelihood) in KINDS.items():
            fits = kind.requires <= any_model(decoder, likelihood).capabilities
            yield pytest.param(name, case, fits, id=f"{name}-{case}")


@pytest.mark.parametrize(("name", "case", "fits"), list(pairs()))
def test_runs_where_it_fits_and_is_refused_where_not(name, case, fits):
    model = any_model(*KINDS[case])
    engine = build_engine(name, model)
    x = torch.rand(7, 64, generator=torch.Generator().manual_seed(0))
    if not fits:
        with pytest.raises(InputError, match=rf"{type(engine).__name__} needs .*fitting\(model\) names the engines"):
            infer(model, engine, x)
        with pytest.raises(InputError, match=rf"{name} needs .*engines that fit: {', '.join(fitting(model))}"):
            check_named(name, model)
        return
    result = infer(model, engine, x, generator=torch.Generator().manual_seed(1))
    assert isinstance(result.posterior, RelaxedPoisson)
    assert result.posterior.log_rate.shape == (7, 24)
    assert result.posterior.log_rate.dtype == x.dtype
    assert torch.isfinite(result.posterior.log_rate).all()
    assert all(value.shape == (7,) for value in result.stats.values())
    assert {"steps", "certificate"} <= set(result.stats)
    assert result.trace == {}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_batches_can_be_permuted_and_split(name):
    model = random_model()
    engine = build_engine(name, model)
    if engine.tolerance is not None:
        engine.tolerance = 1e-18  # short of it an answer is free to differ
    x = random_data(model, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    whole = infer(model, engine, x).posterior.log_rate
    shuffled = infer(model, engine, x[order]).posterior.log_rate
    alone = torch.cat([infer(model, engine, row[None]).posterior.log_rate for row in x])
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(alone, whole, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_large_batch_goes_through_in_parts(name, monkeypatch):
    """The same answer, statistics, trace and state, with a prior for each datum and from a state
    too."""
    model, one = random_model(), driver.ROWS_AT_ONCE
    engine, x = build_engine(name, model), random_data(model, 11)
    prior = RelaxedPoisson(model.prior().log_rate + 0.1 * random_data(model, 11)[:, :1])
    record = ("free_energy", "u")
    if engine.tolerance is not None:
        engine.tolerance, record = 1e-18, ()  # short of it an answer is free to differ
    found = []
    for rows in (one, 4):
        monkeypatch.setattr(driver, "ROWS_AT_ONCE", rows)
        with torch.no_grad():
            first = infer(model, engine, x, prior=prior, record=record)
            found.append((first, infer(model, engine, x, prior=prior, state=first.state)))
    for whole, parts in zip(*found, strict=True):
        tolerance = {"rtol": 1e-6, "atol": 1e-6}
        torch.testing.assert_close(parts.posterior.log_rate, whole.posterior.log_rate, **tolerance)
        assert parts.stats.keys() == whole.stats.keys()
        assert parts.state.memory.keys() == whole.state.memory.keys()
        assert (parts.state.step_count, parts.state.engine) == (whole.state.step_count, whole.state.engine)
        for name, value in whole.trace.items():
            torch.testing.assert_close(parts.trace[name], value, **tolerance)


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_given_is_mutated(name):
    model = random_model()
    engine = build_engine(name, model)
    x = random_data(model, 4)
    start = State(torch.full((4, model.latents), -2.0, dtype=torch.float64))
    before = (x.clone(), start.u.clone(), {k: v.clone() for k, v in model.state_dict().items()})
    infer(model, engine, x, state=start)
    assert torch.equal(x, before[0])
    assert torch.equal(start.u, before[1])
    assert all(torch.equal(v, before[2][k]) for k, v in model.state_dict().items())
    assert start.memory == {}


@pytest.mark.parametrize("name", ENGINES)
def test_uses_the_prior_that_it_is_given(name):
    """A prior per datum, equal to the static one, changes nothing; another one changes the
    answer."""
    model = random_model()
    engine = build_engine(name, model)
    x = random_data(model, 3)
    static = seeded(model, engine, x).posterior.log_rate
    log_rate = model.prior.log_rate.detach()
    same = seeded(model, engine, x, prior=RelaxedPoisson(log_rate.repeat(3, 1))).posterior.log_rate
    other = seeded(model, engine, x, prior=RelaxedPoisson(log_rate.repeat(3, 1) + 1)).posterior.log_rate
    torch.testing.assert_close(same, static)
    assert (other - static).abs().mean() > 0.01


@pytest.mark.parametrize("name", FIXED)
def test_ten_and_ten_steps_are_twenty(name):
    model = random_model()
    engine = build_engine(name, model)
    x = random_data(model, 6)
    generator = torch.Generator().manual_seed(1)
    first = infer(model, engine, x, steps=10, generator=generator)
    second = infer(model, engine, x, steps=10, state=first.state, generator=generator)
    whole = seeded(model, engine, x, steps=20)
    torch.testing.assert_close(second.posterior.log_rate, whole.posterior.log_rate, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
def test_takes_over_from_any_engine(name, other):
    """The state of another engine is a start, with none of its memory."""
    model = random_model()
    x = random_data(model, 3)
    handed = seeded(model, build_engine(other, model), x, steps=3 if other in FIXED else None).state
    engine = build_engine(name, model)
    found = seeded(model, engine, x, steps=2 if name in FIXED else None, state=handed).posterior.log_rate
    if name != other:
        fresh = State(handed.u)
        again = seeded(model, engine, x, steps=2 if name in FIXED else None, state=fresh).posterior.log_rate
        torch.testing.assert_close(found, again)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_data_and_model_may_differ_in_precision(name, dtypes):
    model = random_model().to(dtypes[1])
    x = random_data(model, 3).to(dtypes[0])
    result = seeded(model, build_engine(name, model), x, record=() if name == "optimal" else ("free_energy",))
    assert result.posterior.log_rate.dtype == dtypes[0]
    assert torch.isfinite(model.free_energy(x, result.posterior).total).all()


def test_runs_under_inference_mode():
    model = any_model("mlp")
    with torch.inference_mode():
        x = torch.rand(3, 64)
        assert torch.isfinite(infer(model, build_engine("lca-unrolled", model), x).posterior.log_rate).all()


def test_sampled_lca_is_bounded_on_any_scale():
    model = any_model("mlp")
    x = 1e4 * torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    result = infer(model, build_engine("lca-unrolled", model), x, generator=torch.Generator().manual_seed(1))
    assert result.posterior.log_rate.max() <= 10
    result.posterior.sample()


@pytest.mark.parametrize("name", FIXED)
def test_the_record_matches_shorter_runs(name):
    model = random_model()
    engine = build_engine(name, model)
    x = random_data(model, 3)
    trace = seeded(model, engine, x, steps=4, record=("free_energy", "certificate", "u")).trace
    assert trace["free_energy"].shape == (5, 3)
    assert trace["u"].shape == (5, 3, model.latents)
    for steps in range(5):
        posterior = seeded(model, engine, x, steps=steps).posterior
        torch.testing.assert_close(trace["u"][steps], posterior.log_rate)
        torch.testing.assert_close(trace["free_energy"][steps], model.free_energy(x, posterior).total.detach())


@pytest.mark.parametrize("name", [name for name in ITERATIVE if name in DETERMINISTIC])
def test_reaches_the_optimum_and_stays_there(name):
    model = random_model()
    engine = build_engine(name, model)
    x = random_data(model, 8)
    best = infer(model, build_engine("optimal", model), x)
    assert (best.stats["certificate"] <= 1e-6).all()
    optimum = model.free_energy(x, best.posterior).total
    reached = infer(model, engine, x, steps=300)
    gap = model.free_energy(x, reached.posterior).total - optimum
    assert (gap.abs() < 2e-6).all()
    stayed = infer(model, engine, x, steps=5, state=State(reached.posterior.log_rate))
    moved = model.free_energy(x, stayed.posterior).total - model.free_energy(x, reached.posterior).total
    assert (moved.abs() < 1e-6).all()


@pytest.mark.parametrize("name", DESCENDING)
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 30.0])
def test_stable_for_every_datum(name, scale, norm, patches):
    """No scale of input or dictionary makes F rise, or anything non-finite, at default settings in
    float32."""
    model = random_model(256, 512).float()
    with torch.no_grad():
        model.dictionary.mul_(norm)
    x = scale * patches[:12]
    with torch.no_grad():
        trace = infer(model, build_engine(name, model), x, record=("free_energy",)).trace["free_energy"].double()
    assert torch.isfinite(trace).all()
    rise = trace.diff(dim=0) / (trace[:-1].abs() + x.double().square().sum(-1))
    assert rise.max() < 1e-5
    assert (trace[-1] <= trace[0] * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("norm", [1e-3, 1.0, 30.0])
def test_bounded_for_every_datum(name, scale, norm, patches):
    """No scale of input or dictionary makes anything non-finite, or rates of which no counts can be
    drawn."""
    model = random_model(256, 512).float()
    with torch.no_grad():
        model.dictionary.mul_(norm)
        result = seeded(model, build_engine(name, model), scale * patches[:12], record=("free_energy",))
    assert torch.isfinite(result.trace["free_energy"]).all()
    assert result.posterior.drawable.all()


@pytest.mark.parametrize("name", DESCENDING)
def test_zero_and_duplicated_atoms(name):
    model = random_model(32, 64)
    with torch.no_grad():
        model.dictionary[:, 0] = 0
        model.dictionary[:, 2] = model.dictionary[:, 1]
        model.dictionary[:, 3] *= 100
    x = random_data(model, 5)
    log_rate = infer(model, build_engine(name, model), x, steps=200).posterior.log_rate
    assert torch.isfinite(log_rate).all()
    torch.testing.assert_close(log_rate[:, 0], model.prior.log_rate[0].detach().expand(5))  # nothing to explain
    torch.testing.assert_close(log_rate[:, 2], log_rate[:, 1])


@pytest.mark.parametrize("name", ENGINES)
def test_save_and_load(name, tmp_path):
    model = random_model().float()
    engine = build_engine(name, model)
    x = random_data(model, 3)
    torch.save(engine.state_dict(), tmp_path / "engine.pt")
    torch.manual_seed(99)
    other = ENGINES[name].build(ENGINES[name].Settings(), model, model.shape)
    other.load_state_dict(torch.load(tmp_path / "engine.pt", weights_only=True))
    assert torch.equal(seeded(model, engine, x).posterior.log_rate, seeded(model, other, x).posterior.log_rate)


@pytest.mark.parametrize("name", ENGINES)
def test_every_parameter_of_the_engine_and_the_model_gets_a_gradient(name):
    model = random_model()
    engine = build_engine(name, model)
    with torch.no_grad():  # away from a start at 0, where a layer below gets no gradient
        for index, parameter in enumerate(engine.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index), dtype=parameter.dtype)
            parameter.add_(0.02 * noise)
    x = random_data(model, 4)
    result = seeded(model, engine, x)
    model.free_energy(x, result.posterior).total.mean().backward()
    for module in (model, engine):
        for label, parameter in module.named_parameters():
            assert parameter.grad is not None, label
            assert torch.isfinite(parameter.grad).all(), label
            assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("decoder", ["mlp", "conv"])
def test_lca_lowers_the_sampled_free_energy(decoder):
    """Without a closed form: LCA ends far below its start, on images that the decoder can make."""
    model = any_model(decoder)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
        counts = torch.poisson(torch.full((50, 24), 1.5), generator=torch.Generator().manual_seed(0))
        x = model.decode(counts)
        engine = build_engine("lca-unrolled", model)
        start = model.free_energy(x, model.posterior(model.prior.log_rate.expand(50, -1)), samples=50).total.mean()
        found = infer(model, engine, x, generator=torch.Generator().manual_seed(1)).posterior
        end = model.free_energy(x, found, samples=50, generator=torch.Generator().manual_seed(2)).total.mean()
    assert end < 0.9 * start


def test_errors_name_value_expectation_and_remedy():
    model = random_model().float()
    engine = build_engine("lca-unrolled", model)
    x = random_data(model, 3)
    bad = x.clone()
    bad[1, 5] = torch.nan
    for arguments, message in (
        ({"x": x[0]}, r"x has shape \(64,\); expected \(B, D\)"),
        ({"x": x[:, :10]}, "x has 10 values per datum; this model explains data of 64"),
        ({"x": bad}, "NaN or infinite values in 1 of 3 data"),
        ({"steps": -1}, "steps is -1"),
        ({"x": x.cfloat()}, "x holds torch.complex64; expected real numbers"),
        ({"record": ("energy",)}, "cannot record energy; expected some of free_energy"),
        ({"state": State(torch.zeros(2, 128))}, r"the state has shape \(2, 128\); expected \(3, 128\)"),
        ({"prior": RelaxedPoisson(torch.zeros(5))}, r"the prior has parameters of shape \(5,\)"),
    ):
        with pytest.raises(InputError, match=message):
            infer(model, engine, **{"x": x, **arguments})
    with pytest.raises(InputError, match="steps is 20, but Amortized infers in one pass"):
        infer(model, build_engine("amortized", model), x, steps=20)
    with pytest.raises(InputError, match="cannot record free_energy: Optimal stops each datum"):
        infer(model, build_engine("optimal", model), x, record=("free_energy",))


def test_the_clamp_of_the_encoder_is_counted_and_bounded():
    model = random_model().float()
    engine = build_engine("amortized", model)
    x = 1e4 * random_data(model, 3)
    result = infer(model, engine, x, gradient=Envelope())
    assert (result.stats["clamped"] > 0).all()
    assert result.posterior.log_rate.max() <= 6
    result.posterior.rsample()
