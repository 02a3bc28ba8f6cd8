"""What is minimized: F of the last step, of every step, of a sequence of steps; the distance to the
best posterior."""

from itertools import pairwise

import pytest
import torch
from problems import random_data, random_model

from itervae.cli import main
from itervae.inference import LISTA, Checkpoint, FISTAUnrolled, Optimal, SemiAmortized, Unroll, infer
from itervae.training import Schedule, TrainingSettings
from itervae.training.objective import objective


def computed(model, engine, x, options, gradient=Unroll(), temperature=0.1, **found):  # noqa: B008 (immutable)
    generator = torch.Generator().manual_seed(0)
    record = () if (options.loss or engine.recipe.loss) == "final" else ("u",)
    inference = infer(model, engine, x, gradient=gradient, record=record, **found)
    return objective(model, engine, x, inference, options, temperature, generator)


@pytest.mark.parametrize("gradient", [Unroll(), Checkpoint()])
def test_every_step_counts_the_same(gradient):
    """The loss is the mean of F over runs of 1, 2 and 3 steps, and so is its gradient."""
    model = random_model(24, 32)
    x = random_data(model, 5)
    engine = LISTA(steps=3, hidden=4).double()
    loss, last = computed(model, engine, x, TrainingSettings(loss="steps"), gradient)
    alone = [model.free_energy(x, infer(model, engine, x, steps=k).posterior).total for k in (1, 2, 3)]
    torch.testing.assert_close(loss, torch.stack(alone).mean())
    torch.testing.assert_close(last.total, alone[-1])
    parameters = [*model.parameters(), engine.layers[0].scalars]
    found = torch.autograd.grad(loss, parameters)
    for one, other in zip(found, torch.autograd.grad(torch.stack(alone).mean(), parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_a_learned_start_counts_as_a_step():
    model = random_model(24, 32)
    x = random_data(model, 5)
    torch.manual_seed(0)
    engine = SemiAmortized.build(SemiAmortized.Settings(steps=2), model, model.shape).double()
    loss, _ = computed(model, engine, x, TrainingSettings())
    alone = [model.free_energy(x, infer(model, engine, x, steps=k).posterior).total for k in (0, 1, 2)]
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_in_a_sequence_the_prior_of_a_step_is_the_posterior_of_the_one_before():
    model = random_model(24, 32)
    x = random_data(model, 5)
    loss, _ = computed(model, FISTAUnrolled(steps=3), x, TrainingSettings(loss="sequence"))
    path = [infer(model, FISTAUnrolled(), x, steps=k).posterior for k in range(4)]
    steps = [model.free_energy(x, path[k + 1], path[k]).total for k in range(3)]
    torch.testing.assert_close(loss, torch.stack(steps).mean())


def test_the_published_weight_of_the_kl_is_the_rate_of_the_posterior():
    model = random_model(24, 32, beta=3.0)
    x = random_data(model, 5)
    loss, last = computed(model, FISTAUnrolled(3), x, TrainingSettings(loss="sequence", kl_rate="posterior"))
    path = [infer(model, FISTAUnrolled(), x, steps=k).posterior for k in range(4)]
    published = []
    for before, now in pairwise(path):
        du = now.u - before.u
        kl = now.u.exp() * (1 + du.exp() * (du - 1))  # as their code has it
        published.append(model.free_energy(x, now, before).reconstruction + 3 * kl.sum(-1))
    torch.testing.assert_close(loss, torch.stack(published).mean())
    torch.testing.assert_close(last.total, model.free_energy(x, path[3], path[2]).total)  # what is recorded is F


@pytest.mark.parametrize("final", [0.05, 1.0])
def test_the_published_straight_through_takes_integers_once_the_temperature_has_fallen(final):
    model = random_model(24, 32)
    x = random_data(model, 5)
    schedule = Schedule(lr=1.0, beta=1.0, beta_ramp=0.0, temperature=final)
    for progress in (0.0, 0.3, 0.499, 0.5, 0.8, 1.0):
        temperature = schedule.temperature_at(progress)
        found = {
            name: computed(model, FISTAUnrolled(2), x, TrainingSettings(estimator=name, temperature=final), **more)[0]
            for more in ({"temperature": temperature},)
            for name in ("eat", "straight-through", "eat-then-straight-through")
        }
        fallen = progress >= 0.5 or final == 1.0
        assert found["eat-then-straight-through"] == found["straight-through" if fallen else "eat"]
        assert found["eat"] != found["straight-through"]


def test_the_distance_to_the_best_posterior_is_least_there():
    model = random_model(24, 32).requires_grad_(False)
    x = random_data(model, 5)
    options = TrainingSettings(target="optimal-rates")
    best = infer(model, Optimal(tolerance=1e-10), x).posterior.u
    far, _ = computed(model, FISTAUnrolled(steps=2), x, options)
    near, _ = computed(model, FISTAUnrolled(steps=200), x, options)
    here = infer(model, FISTAUnrolled(), x, steps=2).posterior
    rate = best.exp()
    expected = (rate * (best - here.u) - rate + here.rate).sum(-1).mean()
    torch.testing.assert_close(far, expected, rtol=1e-3, atol=0)  # its optimum has a certificate of 1e-6
    assert near < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inference", "amortized", "--loss", "steps"], "--loss steps needs an engine with a fixed number of steps"),
        (["--loss", "steps", "--gradient", "envelope"], "--gradient envelope lets no gradient through"),
        (["--kl-rate", "posterior"], "--kl-rate posterior is for the free energy of a sequence of steps on a Poisson"),
        (["--target", "optimal-rates"], "--target optimal-rates needs a model that stays as it is; add --freeze"),
    ],
)
def test_losses_and_targets_that_do_not_fit_are_refused(options, message, tmp_path, capsys):
    command = ["train", "--data", "photos", "--updates", "2", "--run-dir", str(tmp_path / "run"), *options]
    with pytest.raises(SystemExit):
        main(command)
    assert message in " ".join(capsys.readouterr().err.split())
