"""Steps of the dictionary in closed form: the best dictionary and prior rates for the codes that
are remembered, for every family."""

import numpy as np
import pytest
import torch
from families import FAMILIES, linear_model_of, parameters, prior_of, seeded
from scipy.optimize import minimize
from torch.testing import assert_close

from itervae.errors import InputError
from itervae.inference import LCAUnrolled, infer
from itervae.model import SparseCodingSettings, build_model, operators
from itervae.training.dictionary import LEAST_CLOSED, RENEWED, DictionaryStep, choose_steps, unit_atoms
from itervae.training.distributed import Processes
from itervae.training.settings import RunSettings

BATCH, SIZE, LATENTS = 40, 10, 6


def learned(name):
    model = linear_model_of(name, SIZE, LATENTS)
    model.prior = prior_of(name, LATENTS, learned=True)
    return model.double().requires_grad_()


def step_of(model, share=float("inf"), rates=True):
    return DictionaryStep(model, share, rates, Processes())


def codes_of(name, model, seed=3):
    x = torch.randn(BATCH, SIZE, generator=seeded(seed), dtype=torch.float64)
    return x, model.posterior(parameters(name, BATCH, LATENTS, seed=seed))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_step_is_where_the_gradient_of_the_free_energy_vanishes(name):
    model = learned(name)
    x, posterior = codes_of(name, model)
    before = model.free_energy(x, posterior).total.mean().item()
    step_of(model).take([(x, posterior)])
    energy = model.free_energy(x, posterior).total.mean()
    energy.backward()
    assert energy.item() < before
    assert model.decoder.weight.grad.abs().max() < 1e-3  # of the ridge
    if name == "poisson":
        assert model.prior.log_rate.grad.abs().max() < 1e-12


@pytest.mark.parametrize("unit_norm", [False, True])
def test_with_a_bias_the_gradient_vanishes_in_both(unit_norm):
    model = learned("poisson")
    model.decoder.bias = torch.nn.Parameter(torch.zeros(SIZE, dtype=torch.float64))
    model.decoder.unit_norm = unit_norm
    x, posterior = codes_of("poisson", model)
    x = x + torch.linspace(-3, 5, SIZE)
    step = step_of(model)
    for _ in range(40 if unit_norm else 2):
        step.take([(x, posterior)])
    model.free_energy(x, posterior).total.mean().backward()
    assert model.decoder.bias.grad.abs().max() < 1e-9
    assert model.decoder.weight.grad.abs().max() < 1e-3


def test_later_steps_are_the_best_for_data_that_fade():
    model = learned("poisson")
    step, seen = step_of(model), [codes_of("poisson", model, seed) for seed in range(4)]
    for pair in seen:
        step.take([pair])
    weights = np.cumprod([1.0, *[(1 - 1 / n) ** 3 for n in (4, 3, 2)]])[::-1]
    total = sum(w * model.free_energy(x, q).total.sum() for w, (x, q) in zip(weights, seen, strict=True))
    total.backward()
    assert model.decoder.weight.grad.abs().max() < 1e-1  # of some hundreds
    assert model.prior.log_rate.grad.abs().max() < 1e-9


def test_frames_of_a_window_count_like_data():
    one, other = (learned("poisson") for _ in range(2))
    x, posterior = codes_of("poisson", one)
    step_of(one).take([(x, posterior)])
    halves = [
        (part, posterior.like(u)) for part, u in zip(x.split(BATCH // 2), posterior.u.split(BATCH // 2), strict=True)
    ]
    start = other.prior.log_rate.detach().clone()
    step_of(other, rates=False).take(halves)
    assert_close(other.decoder.weight, one.decoder.weight)
    assert_close(other.prior.log_rate.detach(), start)  # a carryover's prior is not this one alone


def test_a_round_over_unit_atoms_finds_each_the_best_given_the_others():
    codes = torch.randn(200, 40, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(200, SIZE, generator=seeded(2), dtype=torch.float64)
    second, cross = codes.mT @ codes, codes.mT @ x
    start = torch.nn.functional.normalize(torch.randn(40, SIZE, generator=seeded(3), dtype=torch.float64), dim=1)

    def misfit(atoms):
        return (x - codes @ atoms).square().sum()

    atoms = unit_atoms(start.clone(), second, cross)
    assert_close(atoms.norm(dim=1), torch.ones(40, dtype=torch.float64))
    assert misfit(atoms) < misfit(start)
    for _ in range(300):
        atoms = unit_atoms(atoms, second, cross)
    multiplier = ((cross - second @ atoms) * atoms).sum(1, keepdim=True)
    assert_close(cross - second @ atoms, multiplier * atoms, atol=1e-6, rtol=0)  # stationary on the spheres

    last = 39  # the last of a round is the best given all others, by a search

    def of(direction):
        changed = atoms.clone()
        changed[last] = torch.from_numpy(direction / np.linalg.norm(direction))
        return misfit(changed).item()

    found = min(minimize(of, start[last].numpy() * sign).fun for sign in (1, -1))
    assert misfit(atoms).item() <= found + 1e-6


@pytest.mark.parametrize("signed", [False, True])
def test_sparse_coding_keeps_unit_atoms_and_its_energy_falls(signed):
    torch.manual_seed(0)
    model = build_model(SparseCodingSettings(latents=32, threshold=0.3, signed=signed), (16,)).requires_grad_()
    x = torch.randn(400, 16, generator=seeded(4)) @ torch.randn(16, 16, generator=seeded(5))
    step, engine, energies = step_of(model), LCAUnrolled(30), []
    for _ in range(25):
        with torch.no_grad():
            found = infer(model, engine, x)
            energies.append(model.free_energy(x, found.posterior).total.mean().item())
        step.take([(x, found.posterior)])
    assert energies[-1] < 0.9 * energies[0]
    assert_close(model.decoder.weight.norm(dim=0), torch.ones(32))


def test_an_atom_that_nothing_uses_is_replaced_by_what_the_worst_explained_datum_lacks():
    model = learned("poisson")
    x, posterior = codes_of("poisson", model)
    u = posterior.u.clone()
    u[:, 2] = -30
    posterior, step = posterior.like(u), step_of(model)
    for _ in range(RENEWED - 1):
        step.take([(x, posterior)])
    kept = model.decoder.weight.detach().clone()
    residual = x - posterior.mean @ kept.mT
    worst = residual[residual.square().sum(1).argmax()]
    step.take([(x, posterior)])
    new = model.decoder.weight.detach()[:, 2]
    assert torch.cosine_similarity(new, worst, dim=0) > 0.999
    assert torch.cosine_similarity(new, kept[:, 2], dim=0) < 0.99
    assert_close(new.norm(), kept.norm(dim=0).median(), rtol=1e-2, atol=0)
    assert model.prior.log_rate[2] > -6  # so that it can be used


def test_the_gradient_takes_over_after_its_share_of_the_run():
    model = learned("poisson")
    step = step_of(model, share=0.3)
    step.count = LEAST_CLOSED
    assert len(step.parameters(0.29)) == 2
    assert step.parameters(0.3) == []
    step.count = LEAST_CLOSED - 1
    assert len(step.parameters(0.9)) == 2
    model.prior.log_rate.requires_grad_(False)
    assert len(step_of(model).parameters(0.0)) == 1


def test_many_atoms_have_the_gradient_alone(monkeypatch):
    model, settings = learned("poisson"), RunSettings()
    assert choose_steps(settings, LCAUnrolled(), model) == "both"
    monkeypatch.setattr(operators, "GRAM_BYTES", 0)
    assert choose_steps(settings, LCAUnrolled(), model) == "gradient"
    settings.training.dictionary_steps = "closed-form"
    with pytest.raises(InputError, match="`dictionary_steps=closed-form` was given for 6 atoms, which is too many for"):
        choose_steps(settings, LCAUnrolled(), model)


def test_what_is_remembered_goes_on_from_a_checkpoint():
    models = [learned("poisson") for _ in range(2)]
    first, again = map(step_of, models)
    pairs = [codes_of("poisson", models[0], seed) for seed in range(4)]
    for pair in pairs[:2]:
        first.take([pair])
    models[1].load_state_dict(models[0].state_dict())
    again.load_state_dict(
        {name: value.clone() if torch.is_tensor(value) else value for name, value in first.state_dict().items()}
    )
    for pair in pairs[2:]:
        first.take([pair])
        again.take([pair])
    assert torch.equal(models[0].decoder.weight, models[1].decoder.weight)
    assert torch.equal(models[0].prior.log_rate, models[1].prior.log_rate)


def test_a_memory_of_one_update_knows_the_last_data_alone():
    model = learned("poisson")
    step = DictionaryStep(model, float("inf"), True, Processes(), memory=1)
    for seed in range(3):
        x, posterior = codes_of("poisson", model, seed)
        step.take([(x, posterior)])
    model.free_energy(x, posterior).total.mean().backward()
    assert model.decoder.weight.grad.abs().max() < 1e-3  # of the ridge
    assert model.prior.log_rate.grad.abs().max() < 1e-12


@pytest.mark.parametrize("restart", [None, 0.3])
def test_an_atom_that_one_datum_has_to_itself_is_replaced_where_that_is_asked_for(restart):
    """Atom 5 is the direction of one datum, which uses nothing else, and no other datum uses it."""
    model = build_model(SparseCodingSettings(latents=6, threshold=0.1), (SIZE,)).double().requires_grad_()
    step = DictionaryStep(model, float("inf"), True, Processes(), memory=1, restart=restart)
    x = torch.randn(BATCH, SIZE, generator=seeded(7), dtype=torch.float64)
    codes = 1 + torch.rand(BATCH, 6, generator=seeded(8), dtype=torch.float64)
    codes[:, 5], codes[0] = 0, 0
    codes[0, 5] = 3.0
    posterior = model.posterior(torch.where(codes > 0, codes + 0.1, 0))
    assert_close(posterior.mean, codes)
    for _ in range(RENEWED - 1):
        step.take([(x, posterior)])
    own = torch.nn.functional.normalize(x[0], dim=0)
    assert_close(model.decoder.weight[:, 5].detach(), own, atol=1e-4, rtol=0)
    residual = (x - model.decode(codes)).detach()
    worst = torch.nn.functional.normalize(residual[residual.square().sum(1).argmax()], dim=0)
    step.take([(x, posterior)])
    expected = own if restart is None else worst
    assert_close(model.decoder.weight[:, 5].detach(), expected, atol=1e-4, rtol=0)


def test_the_largest_use_of_an_atom_fades_with_the_rest():
    """Looked for only where it decides something."""
    model = learned("poisson")
    step, plain = DictionaryStep(model, 0.5, True, Processes(), restart=0.3), step_of(model)
    pairs = [codes_of("poisson", model, seed) for seed in range(3)]
    plain.take(pairs[:1])
    assert_close(plain.state_dict()["largest"], torch.zeros(LATENTS, dtype=torch.float64))
    expected = torch.zeros(LATENTS, dtype=torch.float64)
    for number, pair in enumerate(pairs, 1):
        step.take([pair])
        expected = torch.maximum((1 - 1 / number) ** 3 * expected, pair[1].mean.square().amax(0))
    assert_close(step.state_dict()["largest"], expected)


@pytest.mark.parametrize("unit_norm", [False, True])
def test_momentum_goes_beyond_the_best_by_its_share_of_the_last_change(unit_norm):
    models = [learned("poisson") for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    plain, ahead = (
        DictionaryStep(model, float("inf"), True, Processes(), memory=1, momentum=momentum)
        for model, momentum in zip(models, (0.0, 0.8), strict=True)
    )
    bests = [models[0].decoder.weight.detach().clone()]
    for model in models:
        model.decoder.unit_norm = unit_norm
    for seed in range(2):
        models[0].load_state_dict(models[1].state_dict())  # both start from where momentum went
        pair = codes_of("poisson", models[0], seed)
        plain.take([pair])
        ahead.take([pair])
        bests.append(models[0].decoder.weight.detach().clone())
    expected = bests[2] + 0.8 * (bests[2] - bests[1])
    if unit_norm:
        expected = torch.nn.functional.normalize(expected, dim=0)
    assert_close(models[1].decoder.weight.detach(), expected)
