"""Ways back through inference, against finite differences, each other and the envelope theorem."""

import pytest
import torch
from problems import any_model, build_engine, random_data, random_model

from itervae.inference import Checkpoint, Envelope, LCAUnrolled, Truncate, Unroll, infer

STEPS = 6


def gradient_of(model, engine, x, gradient, steps=STEPS):
    model.zero_grad()
    posterior = infer(model, engine, x, steps=steps, gradient=gradient).posterior
    model.free_energy(x, posterior).total.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture(params=["lca-unrolled", "ista-unrolled", "fista-unrolled", "lca-ode"])
def case(request):
    model = random_model(size=12, latents=20)
    return model, build_engine(request.param, model), random_data(model, 3, scale=0.7)


def test_unroll_is_the_derivative(case):
    """Against central differences of F after two steps. The atoms are nearly orthogonal, so κ only
    decays: the safeguards, which are constants to back-propagation, do not depend on the model."""
    engine = case[1]
    model = random_model(size=64, latents=10)
    x = random_data(model, 3, scale=0.7)
    steps = 2  # one plain step after the first; momentum has not started, so nothing restarts
    found = gradient_of(model, engine, x, Unroll(), steps)
    direction = torch.randn(len(found), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(change):
        moved = random_model(size=64, latents=10)
        with torch.no_grad():
            start = 0
            for parameter in moved.parameters():
                part = direction[start : start + parameter.numel()].view_as(parameter)
                parameter.add_(change * part)
                start += parameter.numel()
            damping = infer(moved, engine, x, steps=steps).state.memory["damping"]
            return moved.free_energy(x, infer(moved, engine, x, steps=steps).posterior).total.sum(), damping

    (up, damping_up), (down, damping_down) = value(1e-6), value(-1e-6)
    assert torch.equal(damping_up, damping_down)  # the premise of this test
    torch.testing.assert_close(found @ direction, (up - down) / 2e-6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 6, 7])
def test_checkpoint_equals_unroll(case, steps):
    model, engine, x = case
    torch.testing.assert_close(
        gradient_of(model, engine, x, Checkpoint(), steps), gradient_of(model, engine, x, Unroll(), steps)
    )


def test_truncate_runs_from_envelope_to_unroll(case):
    model, engine, x = case
    unrolled = gradient_of(model, engine, x, Unroll())
    torch.testing.assert_close(gradient_of(model, engine, x, Truncate(STEPS + 1)), unrolled)
    torch.testing.assert_close(gradient_of(model, engine, x, Truncate(0)), gradient_of(model, engine, x, Envelope()))


def test_truncate_goes_back_through_the_last_steps_alone(case):
    """Truncate(2) is four steps without gradient, then two unrolled from where they ended."""
    model, engine, x = case
    with torch.no_grad():
        state = infer(model, engine, x, steps=STEPS - 2).state
    model.zero_grad()
    posterior = infer(model, engine, x, steps=2, state=state).posterior
    model.free_energy(x, posterior).total.sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    found = gradient_of(model, engine, x, Truncate(2))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, gradient_of(model, engine, x, Truncate(0)), rtol=1e-6)


def test_every_mode_gives_the_same_posterior(case):
    model, engine, x = case
    modes = [Unroll(), Checkpoint(), Truncate(2), Envelope()]
    answers = [infer(model, engine, x, steps=STEPS, gradient=mode).posterior.log_rate for mode in modes]
    for answer in answers:  # to rounding: what a shortened step read off its line is evaluated anew where a mode cuts
        torch.testing.assert_close(answer, answers[0], rtol=1e-12, atol=1e-12)
    assert [answer.requires_grad for answer in answers] == [True, True, True, False]


def test_envelope_is_exact_at_the_optimum(case):
    """dF*/dθ by central differences of the certified optimum equals the partial derivative at the
    fixed posterior."""
    model, _, x = case
    optimal = build_engine("optimal", model)
    optimal.tolerance = 1e-13
    found = gradient_of(model, optimal, x, Envelope(), None)
    direction = torch.randn(len(found), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pieces = direction.split([p.numel() for p in model.parameters()])

    def optimum(change):
        with torch.no_grad():
            for parameter, piece in zip(model.parameters(), pieces, strict=True):
                parameter.add_(change * piece.view_as(parameter))
            value = model.free_energy(x, infer(model, optimal, x).posterior).total.sum()
            for parameter, piece in zip(model.parameters(), pieces, strict=True):
                parameter.sub_(change * piece.view_as(parameter))
        return value

    slope = (optimum(1e-5) - optimum(-1e-5)) / 2e-5
    torch.testing.assert_close(found @ direction, slope, rtol=1e-6, atol=1e-6)


def test_checkpoint_needs_less_memory_than_unroll():
    model = random_model(size=32, latents=64)
    x = random_data(model, 8)
    saved = {}
    for mode in (Unroll(), Checkpoint()):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            infer(model, LCAUnrolled(), x, steps=36, gradient=mode)
        saved[type(mode)] = total
    assert saved[Checkpoint] < saved[Unroll] / 5


def test_checkpoint_draws_the_same_samples_again():
    """Sampled gradients: the recomputed segments see the numbers of the first pass."""
    model = any_model("mlp")
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    x = 2 * torch.rand(5, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for mode in (Unroll(), Checkpoint()):
        model.zero_grad()
        generator = torch.Generator().manual_seed(1)
        posterior = infer(model, LCAUnrolled(), x, steps=7, gradient=mode, generator=generator).posterior
        posterior.log_rate.square().sum().backward()
        found.append((model.prior.log_rate.grad.clone(), generator.get_state()))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
