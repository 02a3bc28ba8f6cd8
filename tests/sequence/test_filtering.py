"""Filtering: what is carried over, where it begins, that it can stop and go on, and what it
buys."""

import weakref

import pytest
import torch
from families import linear_model_of
from problems import random_model
from slow_sequences import LATENTS, SIZE, clips, trained
from torch.nn import functional

from itervae import FilterState, InputError
from itervae.inference import FISTAUnrolled, LCAUnrolled, Optimal, Recurrent, infer
from itervae.sequence import (
    CARRYOVERS,
    STARTS,
    Leaky,
    LinearMap,
    Mixing,
    NoCarryover,
    PosteriorCarryover,
    filter_sequence,
    filter_step,
)

KINDS = ["diagonal", "low-rank", "full"]


@pytest.fixture
def model():
    return random_model(SIZE, LATENTS, log_rate=-2.0).requires_grad_(False)


def made(name):
    torch.manual_seed(0)
    return CARRYOVERS[name](LATENTS).double()


@pytest.mark.parametrize("name", CARRYOVERS)
@pytest.mark.parametrize("start", STARTS)
def test_twelve_and_twelve_frames_are_twenty_four(model, name, start, tmp_path):
    frames, carryover = clips(model, 3, 24), made(name)
    options = {"start": start, "steps": 3}
    first = filter_sequence(model, LCAUnrolled(), frames[:, :12], carryover, **options)
    torch.save(first.state.to_dict(), tmp_path / "state.pt")
    state = FilterState.from_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second = filter_sequence(model, LCAUnrolled(), iter(frames[:, 12:].unbind(1)), carryover, state, **options)
    whole = filter_sequence(model, LCAUnrolled(), frames, carryover, **options)
    for part in ("u", "prior", "free_energy"):
        both = torch.cat([getattr(first, part), getattr(second, part)], 1)
        assert torch.equal(both, getattr(whole, part))


@pytest.mark.parametrize("name", CARRYOVERS)
def test_a_row_that_forgets_begins_anew_and_the_others_go_on(model, name):
    frames, carryover = clips(model, 3, 8), made(name)
    options = {"start": "safer", "steps": 3}
    before = filter_sequence(model, LCAUnrolled(), frames[:, :4], carryover, **options)
    state = FilterState.from_dict(before.state.forget(torch.tensor([False, True, False])).to_dict())
    after = filter_sequence(model, LCAUnrolled(), frames[:, 4:], carryover, state, **options)
    whole = filter_sequence(model, LCAUnrolled(), frames, carryover, **options)
    anew = filter_sequence(model, LCAUnrolled(), frames[:, 4:], carryover, **options)
    for part in ("u", "prior", "free_energy"):
        expected = getattr(whole, part)[:, 4:].clone()
        expected[1] = getattr(anew, part)[1]
        torch.testing.assert_close(getattr(after, part), expected)


def test_without_carryover_every_frame_is_alone(model):
    frames = clips(model, 3, 4)
    found = filter_sequence(model, FISTAUnrolled(), frames, NoCarryover(), start="prior", steps=5)
    alone = infer(model, FISTAUnrolled(), frames.flatten(0, 1), steps=5).posterior
    torch.testing.assert_close(found.u.flatten(0, 1), alone.u)
    torch.testing.assert_close(found.free_energy.flatten(), model.free_energy(frames.flatten(0, 1), alone).total)


def test_priors_are_what_the_equations_say(model):
    frames = clips(model, 3, 4)
    static, rate = model.prior.log_rate, model.prior.log_rate.exp()

    def priors(carryover):
        found = filter_sequence(model, FISTAUnrolled(), frames, carryover.double(), steps=5)
        torch.testing.assert_close(found.prior[:, 0], static.expand(3, -1))  # the first frame has no past
        return found.prior[:, 1:].detach(), found.u[:, :-1].detach()

    prior, past = priors(PosteriorCarryover())
    assert torch.equal(prior, past)
    prior, past = priors(Leaky(LATENTS))
    torch.testing.assert_close(prior, 0.2 * past + 0.8 * static, rtol=1e-6, atol=1e-6)
    prior, past = priors(Mixing(LATENTS))
    torch.testing.assert_close(prior.exp(), 0.2 * past.exp() + 0.8 * rate, rtol=1e-6, atol=1e-8)
    for kind in KINDS:
        carryover = LinearMap(LATENTS, kind, rank=4)
        with torch.no_grad():
            for index, parameter in enumerate(carryover.parameters()):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
        prior, past = priors(carryover)
        matrix = torch.diag(functional.softplus(carryover.diagonal))
        if kind == "full":
            matrix = matrix + functional.softplus(carryover.matrix)
        if kind == "low-rank":
            matrix = matrix + functional.softplus(carryover.left) @ functional.softplus(carryover.right)
        assert (matrix >= 0).all()
        expected = carryover.log_share.exp() * rate + past.exp() @ matrix.mT
        torch.testing.assert_close(prior.exp(), expected.detach())


def test_the_safer_start_is_the_better_of_the_two(model):
    frames = clips(model, 40, 2, share=0.5)
    state = filter_step(model, Optimal(), frames[:, 0], NoCarryover())[2]
    energy = {}
    for start in STARTS:
        found, prior, _ = filter_step(model, LCAUnrolled(), frames[:, 1], Mixing(LATENTS), state, start=start, steps=0)
        energy[start] = model.free_energy(frames[:, 1], found.posterior, prior).total
    assert torch.equal(energy["safer"], torch.minimum(energy["prior"], energy["previous"]))
    assert 0 < (energy["prior"] < energy["previous"]).double().mean() < 1


@pytest.mark.parametrize(
    "carryover",
    [
        pytest.param(Leaky(LATENTS), marks=pytest.mark.slow, id="leaky"),
        pytest.param(Mixing(LATENTS), marks=pytest.mark.slow, id="mixing"),
        pytest.param(LinearMap(LATENTS), id="linear"),
    ],
)
def test_a_learned_carryover_lowers_the_free_energy_of_slow_sequences_and_not_of_a_shuffled_past(model, carryover):
    carryover = trained(model, carryover.double(), clips(model, 20, 5))
    frames = clips(model, 60, 6, seed=9)
    with torch.no_grad():
        static = filter_sequence(model, Optimal(), frames, NoCarryover()).free_energy[:, 1:]
        found = filter_sequence(model, Optimal(), frames, carryover)
        last = FilterState(found.u[:, -2].roll(1, 0), found.state.age)  # the past of another clip
        wrong = filter_step(model, Optimal(), frames[:, -1], carryover, last)
        shuffled = model.free_energy(frames[:, -1], wrong[0].posterior, wrong[1]).total
    gain = static - found.free_energy[:, 1:]
    assert gain.mean() > 10 * gain.mean(1).std() / len(gain) ** 0.5
    assert shuffled.mean() > static[:, -1].mean()


def test_every_parameter_gets_a_gradient(model):
    frames = clips(model, 4, 3)
    for carryover in (Leaky(LATENTS), Mixing(LATENTS), *(LinearMap(LATENTS, kind) for kind in KINDS)):
        found = filter_sequence(model, FISTAUnrolled(), frames, carryover.double(), steps=3)
        found.free_energy.mean().backward()
        for name, parameter in carryover.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_other_families_carry_their_parameters_over():
    model = linear_model_of("gaussian").requires_grad_(False)
    frames = torch.randn(2, 3, model.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = len(model.prior().u)
    found = filter_sequence(model, Optimal(), frames, Leaky(size).double())
    torch.testing.assert_close(found.prior[:, 2], 0.2 * found.u[:, 1] + 0.8 * model.prior().u, rtol=1e-6, atol=1e-6)
    assert filter_sequence(model, Recurrent(steps=2, parts=2).double(), frames, PosteriorCarryover()).u.isfinite().all()
    with pytest.raises(InputError, match="carryover Mixing mixes rates, and this model has a Gaussian"):
        filter_sequence(model, Optimal(), frames, Mixing(model.latents))


@pytest.mark.parametrize("name", CARRYOVERS)
def test_nothing_but_the_last_state_is_kept(model, name):
    carryover, state, seen = made(name), None, []

    def stream():
        for x in clips(model, 2, 12).unbind(1):
            seen.append(weakref.ref(frame := x.clone()))
            yield frame

    with torch.no_grad():
        for x in stream():
            state = filter_step(model, FISTAUnrolled(), x, carryover, state, steps=1)[2]
            seen.extend(weakref.ref(value) for value in state.to_dict().values())
    del x
    assert sum(value() is not None for value in seen) == len(state.to_dict())


def test_errors(model):
    with pytest.raises(InputError, match="start is 'cold'; expected one of prior, previous, safer"):
        filter_sequence(model, LCAUnrolled(), clips(model, 2, 2), NoCarryover(), start="cold")
    with pytest.raises(InputError, match="there is no frame to filter"):
        filter_sequence(model, LCAUnrolled(), [], NoCarryover())
    frames = clips(model, 3, 4)
    state = filter_step(model, LCAUnrolled(), frames[:, 0], NoCarryover(), steps=1)[2]
    for start in STARTS:
        with pytest.raises(
            InputError, match="the state is that of 3 sequences with 32 parameters each, this frame of 2"
        ):
            filter_step(model, LCAUnrolled(), frames[:2, 1], Mixing(LATENTS), state, start=start)
    with pytest.raises(InputError, match=r"frames have the shape \(4, 24\); expected \(B, T, D\)"):
        filter_sequence(model, LCAUnrolled(), frames[0], NoCarryover())
    frames[1, 2, 5], frames[2, 3, 0] = torch.nan, torch.inf
    with pytest.raises(InputError, match=r"2 of 4 frames have NaN or infinite values, the first at time 2 \(from 0\)"):
        filter_sequence(model, LCAUnrolled(), frames, NoCarryover())
    for start in STARTS:
        with pytest.raises(InputError, match="x has NaN or infinite values in 1 of 3 data"):
            filter_step(model, LCAUnrolled(), frames[:, 2], Mixing(LATENTS), state, start=start)
    with pytest.raises(InputError, match="kind is 'dense'"):
        LinearMap(4, "dense")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rank is 0"):
        LinearMap(4, "low-rank", 0)
