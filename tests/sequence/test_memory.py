"""Carryovers with a memory: that they follow their equations, learn, and stay finite."""

import pytest
import torch
from families import linear_model_of
from problems import random_model
from slow_sequences import LATENTS, SIZE, clips, trained
from torch.distributions import Poisson, kl_divergence

from itervae import InputError
from itervae.inference import FISTAUnrolled, Optimal
from itervae.sequence import Adaptive, FilterState, Gated, Level, NoCarryover, filter_sequence, filter_step


def without_level(size):
    return Adaptive(size, level=False)


KINDS = [Adaptive, without_level, Gated, Level]


@pytest.fixture
def model():
    return random_model(SIZE, LATENTS, log_rate=-2.0).requires_grad_(False)


def made(kind, spread=0.0):
    """A new one, float64, its parameters moved by noise."""
    torch.manual_seed(0)
    carryover = kind(LATENTS).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in carryover.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise)
    return carryover


def kl(rate, prior):
    return kl_divergence(Poisson(rate), Poisson(prior)).sum()


def adaptive_priors(carryover, rates, static):
    """The rates of the priors of all frames but the first of one sequence, from the rates (T, K) of
    its posteriors."""
    logits = torch.linspace(torch.tensor(0.02).logit(), torch.tensor(0.9).logit(), 8).double()
    weights = [(logit + carryover.offset).sigmoid() for logit in logits]
    decay, sharpness = carryover.logit_decay.sigmoid(), carryover.log_sharpness.exp()
    loss, experts, found = torch.zeros(8).double(), None, []
    for frame, rate in enumerate(rates[:-1]):
        if experts is not None:
            loss = decay * loss + torch.stack([kl(rate, expert) for expert in experts])
        level = 1.0
        if carryover.log_seen is not None:
            shares = carryover.logit_level_decay.sigmoid() ** torch.arange(frame, -1, -1)
            ratios = rates[: frame + 1].sum(1) / static.sum()
            seen = carryover.log_seen.exp()
            level = (seen + (shares * ratios).sum()) / (seen + shares.sum())
        experts = [(1 - weight) * level * static + weight * rate for weight in weights]
        unnormalized = (carryover.belief - sharpness * (loss - loss.min())).exp()
        shares = unnormalized / unnormalized.sum()
        found.append(sum(share * expert for share, expert in zip(shares, experts, strict=True)))
    return torch.stack(found)


def gated_priors(carryover, rates, static):
    cell, past, found = carryover.cell, static, []
    hidden = torch.zeros(64).double()
    for rate in rates[:-1]:
        seen = torch.stack([(1 + kl(rate, static)).log(), (1 + kl(rate, (static + past) / 2)).log()])
        from_input = (cell.weight_ih @ seen + cell.bias_ih).chunk(3)
        from_hidden = (cell.weight_hh @ hidden + cell.bias_hh).chunk(3)
        reset, update = ((from_input[i] + from_hidden[i]).sigmoid() for i in (0, 1))
        hidden = (1 - update) * (from_input[2] + reset * from_hidden[2]).tanh() + update * hidden
        logit, gain = (carryover.gates.weight @ hidden + carryover.gates.bias).chunk(2)
        found.append((1 - logit.sigmoid()) * gain.exp() * static + logit.sigmoid() * rate)
        past = rate
    return torch.stack(found)


def level_priors(carryover, rates, static):
    decay, seen, found = carryover.logit_decay.sigmoid(), carryover.log_seen.exp(), []
    for frame in range(1, len(rates)):
        shares = decay ** torch.arange(frame - 1, -1, -1)
        ratios = rates[:frame].sum(1) / static.sum()
        level = (seen + (shares * ratios).sum()) / (seen + shares.sum())
        found.append(static * level ** carryover.logit_power.sigmoid())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("kind", "equation"),
    [
        (Adaptive, adaptive_priors),
        (without_level, adaptive_priors),
        (Gated, gated_priors),
        (Level, level_priors),
    ],
)
def test_priors_are_what_the_equations_say(model, kind, equation):
    carryover, static = made(kind, spread=0.2), model.prior.log_rate.exp()
    with torch.no_grad():
        found = filter_sequence(model, FISTAUnrolled(), clips(model, 3, 6), carryover, steps=5)
        for rates, prior in zip(found.u.exp(), found.prior.exp(), strict=True):
            torch.testing.assert_close(prior[0], static)
            torch.testing.assert_close(prior[1:], equation(carryover, rates, static))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(model, kind):
    carryover = made(kind)
    found = filter_sequence(model, FISTAUnrolled(), clips(model, 4, 5), carryover, steps=3)
    found.free_energy.mean().backward()
    for name, parameter in carryover.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_stay_finite_when_those_before_are_tiny_or_large(model, kind, dtype):
    static = model.to(dtype).prior()
    carryover = made(kind, spread=0.2).to(dtype)
    tiny, large = torch.tensor([1e-30, 1e3], dtype=dtype).log().tolist()
    rows = torch.full((4, LATENTS), tiny, dtype=dtype)
    rows[1] = large
    rows[2, ::2] = rows[3, 1::2] = large
    state, loss = None, torch.zeros((), dtype=dtype)
    for shift in range(4):  # each row is followed by every other
        u = rows.roll(shift, 0).requires_grad_()
        age = torch.full((4,), shift + 1)
        state = FilterState(u, age, carryover.remember(static, state, u))
        rate = carryover(static, state).mean
        assert rate.isfinite().all()
        assert (rate > 0).all()
        assert all(value.isfinite().all() for value in state.memory.values())
        loss = loss + rate.log().sum()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in carryover.parameters())


@pytest.mark.parametrize(
    ("kind", "lr"),
    [
        pytest.param(Adaptive, 0.1, marks=pytest.mark.slow),
        pytest.param(without_level, 0.1, marks=pytest.mark.slow),
        pytest.param(Gated, 0.03, marks=pytest.mark.slow),
    ],
)
def test_training_lowers_the_free_energy_of_slow_sequences_and_a_shuffled_past_does_not(model, kind, lr):
    carryover = trained(model, made(kind), clips(model, 20, 5), lr=lr)
    frames = clips(model, 60, 6, seed=9)
    with torch.no_grad():
        static = filter_sequence(model, Optimal(), frames, NoCarryover()).free_energy[:, 1:]
        new = filter_sequence(model, Optimal(), frames, made(kind)).free_energy[:, 1:]
        found = filter_sequence(model, Optimal(), frames, carryover)
        before = filter_sequence(model, Optimal(), frames[:, :-1], carryover).state
        memory = {name: value.roll(1, 0) for name, value in before.memory.items()}
        last = FilterState(before.u.roll(1, 0), before.age, memory)  # the past of another clip
        wrong = filter_step(model, Optimal(), frames[:, -1], carryover, last)
        shuffled = model.free_energy(frames[:, -1], wrong[0].posterior, wrong[1]).total
    for other in (static, new):
        gain = other - found.free_energy[:, 1:]
        assert gain.mean() > 10 * gain.mean(1).std() / len(gain) ** 0.5
    assert shuffled.mean() > static[:, -1].mean()


@pytest.mark.parametrize("kind", [Adaptive, without_level])
def test_the_adaptive_weight_rises_on_a_still_scene_and_falls_on_independent_frames(model, kind):
    carryover = made(kind)
    frames = torch.cat([clips(model, 10, 8, share=1.0), clips(model, 10, 8, share=0.0)])
    state, weights = None, []
    with torch.no_grad():
        for x in frames.unbind(1):
            state = filter_step(model, Optimal(), x, carryover, state)[2]
            weights.append(carryover.weight(state.memory).mean(1))
    first, last = weights[0], weights[-1]
    torch.testing.assert_close(first, first[:1].expand(20))  # nothing is known yet
    assert (last[:10] > first[:10] + 0.2).all()
    assert (last[10:] < first[10:] - 0.05).all()


def test_the_level_follows_the_rates_of_each_clip(model):
    carryover, static, state = made(Adaptive), model.prior(), None
    scale = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    for age in range(1, 81):
        u = (static.u + scale.log()[:, None]).roll(age, 1)
        state = FilterState(u, torch.full((3,), age), carryover.remember(static, state, u))
    frames = 1 / (1 - 0.7)  # that are remembered, beside the one taken for seen
    torch.testing.assert_close(carryover.level(state.memory), (1 + frames * scale) / (1 + frames), rtol=1e-6, atol=0)


def test_a_level_learns_the_contrast_of_a_sequence_and_nothing_of_its_content(model):
    """Frames are independent but for the contrast of their sequence: all that there is to gain."""
    frames = clips(model, 40, 5, share=0.0)
    frames = frames * torch.where(torch.arange(40) % 2 > 0, 3.0, 0.3)[:, None, None]
    carryover = trained(model, made(Level), frames[:20], updates=4)
    with torch.no_grad():
        static, found = (
            filter_sequence(model, Optimal(), frames[20:], each).free_energy[:, 1:]
            for each in (NoCarryover(), carryover)
        )
        state = filter_sequence(model, Optimal(), frames[:3], carryover).state
        u = state.u[:, torch.randperm(LATENTS, generator=torch.Generator().manual_seed(0))]  # the same total
        other = FilterState(u, state.age, carryover.remember(model.prior(), None, u))
        same = FilterState(state.u, state.age, carryover.remember(model.prior(), None, state.u))
    assert ((static - found).mean(1) > 0.5).all()
    torch.testing.assert_close(carryover(model.prior(), other).u, carryover(model.prior(), same).u)


def test_a_level_of_which_nothing_is_said_goes_back_to_one(model):
    """A posterior that is its own prior, from a level of 1000 on."""
    carryover, static, state = made(Level), model.prior(), None
    u = static.u.expand(1, -1) + torch.tensor(1000.0).log()
    for age in range(1, 200):
        state = FilterState(u, torch.tensor([age]), carryover.remember(static, state, u))
        u = carryover(static, state).u
    torch.testing.assert_close(u, static.u.expand(1, -1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_without_its_memory_has_none(model, kind):
    carryover, frames = made(kind, spread=0.2), clips(model, 3, 3)
    state = filter_sequence(model, FISTAUnrolled(), frames[:, :2], NoCarryover(), steps=3).state
    empty = carryover.remember(model.prior(), state.forget(torch.ones(3, dtype=torch.bool)), state.u)
    zeros = {name: torch.zeros_like(value) for name, value in empty.items()}
    options = {"steps": 3}
    found = filter_step(model, FISTAUnrolled(), frames[:, 2], carryover, state, **options)[1].u
    state = FilterState(state.u, state.age, zeros)
    assert torch.equal(found, filter_step(model, FISTAUnrolled(), frames[:, 2], carryover, state, **options)[1].u)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_parameters_serve_a_float64_model(model, kind):
    double = made(kind).eval()
    frames = clips(model, 3, 4)
    found = filter_sequence(model, FISTAUnrolled(), frames, made(kind).float(), steps=3)
    assert found.u.dtype == torch.float64
    expected = filter_sequence(model, FISTAUnrolled(), frames, double, steps=3)
    torch.testing.assert_close(found.prior, expected.prior, rtol=1e-4, atol=1e-4)


def test_errors():
    with pytest.raises(InputError, match="experts is 1"):
        Adaptive(4, experts=1)
    with pytest.raises(InputError, match="hidden is 0"):
        Gated(4, hidden=0)
    model = linear_model_of("gaussian").requires_grad_(False)
    for kind in (Adaptive, Gated, Level):
        with pytest.raises(InputError, match=f"carryover {kind.__name__} mixes rates, and this model has a Gaussian"):
            filter_sequence(model, Optimal(), torch.zeros(2, 3, model.size).double(), kind(model.latents))
