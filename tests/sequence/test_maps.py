"""Carryovers on the maps of a convolutional dictionary: what is of a map is of all its places, and
a linear one can reach the places around."""

import itertools

import pytest
import torch
from families import seeded
from torch.nn import functional
from torch.testing import assert_close

from itervae import InputError
from itervae.data import DataSettings, Preparation
from itervae.inference import LCAUnrolled, Optimal
from itervae.model import (
    ConvolutionalDecoder,
    GaussianLikelihood,
    GaussianPrior,
    GenerativeModel,
    PoissonPrior,
    PoissonVAESettings,
    build_model,
)
from itervae.sequence import (
    CARRYOVERS,
    Adaptive,
    FilterState,
    Gated,
    Leaky,
    Level,
    LinearMap,
    Mixing,
    filter_sequence,
    filter_step,
)
from itervae.sequence.settings import LinearMapSettings

MAPS, SIDES = 3, (7, 6)


def model_of(prior=PoissonPrior, **settings):
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder(SIDES, MAPS, 3, stride=2, unit_norm=True)
    prior = prior(MAPS, **settings).at(decoder.places)
    return GenerativeModel(prior, decoder, GaussianLikelihood(0.2), SIDES).double().requires_grad_(False)


def state_of(model, seed=0):
    u = torch.randn(2, len(model.prior().u), generator=seeded(seed), dtype=torch.float64)
    return FilterState(u, torch.ones(2, dtype=torch.int64))


def learned(carryover, seed=1):
    """The carryover with other parameters than it starts with."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in carryover.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return carryover.double()


@pytest.mark.parametrize("kind", [Leaky, Mixing])
def test_a_weight_of_a_map_is_that_of_all_its_places(kind):
    model = model_of()
    static, state = model.prior(), state_of(model)
    carryover = learned(kind.build(kind.Settings(), model))
    count = model.prior.places
    assert carryover.logit.shape == (MAPS,)
    dense = kind(MAPS * count).double()
    with torch.no_grad():
        dense.logit.copy_(carryover.logit.repeat_interleave(count))
    assert_close(carryover(static, state).u, dense(static, state).u)


def test_of_locations_and_scales_each_has_weights_of_its_maps():
    model = model_of(GaussianPrior)
    carryover = learned(Leaky.build(Leaky.Settings(), model))
    state, share = state_of(model), carryover.logit.sigmoid()
    found = carryover(model.prior(), state).u.detach()
    own = model.prior().u
    for part, each in enumerate(share.view(2, MAPS)):
        for k, weight in enumerate(each):
            at = slice((part * MAPS + k) * model.prior.places, (part * MAPS + k + 1) * model.prior.places)
            assert_close(found[:, at], (weight * state.u[:, at] + (1 - weight) * own[at]).detach())


@pytest.mark.parametrize("kind", ["diagonal", "full", "low-rank"])
def test_a_linear_map_is_the_same_at_every_place(kind):
    model = model_of()
    static, state, count = model.prior(), state_of(model), model.prior.places
    carryover = learned(LinearMap.build(LinearMapSettings(map=kind, rank=2 if kind == "low-rank" else None), model))
    matrix = torch.diag(functional.softplus(carryover.diagonal))
    if kind == "full":
        matrix = matrix + functional.softplus(carryover.matrix)
    if kind == "low-rank":
        matrix = matrix + functional.softplus(carryover.left) @ functional.softplus(carryover.right)
    whole = torch.kron(matrix, torch.eye(count).double())
    share = carryover.log_share.exp().repeat_interleave(count)
    assert_close(carryover(static, state).u.exp(), share * static.u.exp() + state.u.exp() @ whole.mT)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_linear_map_reaches_the_places_around(kind):
    """Against a loop over places: λ at (i + di, j + dj) predicts the rate at (i, j)."""
    model = model_of()
    static, state = model.prior(), state_of(model)
    carryover = learned(LinearMap.build(LinearMapSettings(map=kind, reach=2), model))
    weight = functional.softplus(carryover.moves).detach()
    (height, width), before = model.places, state.u.exp().view(2, MAPS, *model.places)
    own = functional.softplus(carryover.diagonal).detach()[:, None, None]
    expected = own * before + (carryover.log_share.detach()[:, None, None] + static.u.view(MAPS, *model.places)).exp()
    for k, i, j in itertools.product(range(MAPS), range(height), range(width)):
        for di, dj in itertools.product(range(-2, 3), repeat=2):
            if 0 <= i + di < height and 0 <= j + dj < width:
                from_maps = [k] if kind == "diagonal" else range(MAPS)
                for index, other in enumerate(from_maps):
                    expected[:, k, i, j] += weight[k, index, di + 2, dj + 2] * before[:, other, i + di, j + dj]
    assert_close(carryover(static, state).u.exp(), expected.flatten(1))


def test_a_level_is_of_each_map():
    model = model_of()
    carryover = learned(Level.build(Level.Settings(), model))
    static, count = model.prior(), model.prior.places
    seen, u = torch.zeros(2, 2, MAPS).double(), None
    state = None
    for seed in range(3):
        u = state_of(model, seed).u
        memory = carryover.remember(static, state, u)
        level = u.exp().view(2, MAPS, count).sum(2) / static.u.exp().view(MAPS, count).sum(1)
        seen = carryover.logit_decay.sigmoid() * seen + torch.stack([level, torch.ones_like(level)], 1)
        state = FilterState(u, torch.ones(2, dtype=torch.int64), memory)
    ratio = (carryover.log_seen.exp() + seen[:, 0]) / (carryover.log_seen.exp() + seen[:, 1])
    expected = static.u + carryover.logit_power.sigmoid() * ratio.log().repeat_interleave(count, 1)
    assert_close(carryover(static, state).u, expected)


@pytest.mark.parametrize("name", [name for name in CARRYOVERS if name != "none"])
def test_what_is_learned_on_crops_goes_with_whole_frames(name):
    model = model_of()
    settings = LinearMapSettings(reach=1) if name == "linear" else CARRYOVERS[name].Settings()
    carryover = CARRYOVERS[name].build(settings, model)
    larger = model.at((11, 8))
    for each in (model, larger):
        frames = torch.randn(2, 3, each.size, generator=seeded(0), dtype=torch.float64)
        found = filter_sequence(each, Optimal(), frames, carryover)
        assert found.prior.shape == (2, 3, each.latents)
        assert found.free_energy.isfinite().all()


def test_a_carryover_that_reaches_predicts_what_moves():
    """A unit that fires one place further on in each frame: the map that knows where it goes to has
    the lower KL."""
    model = model_of()
    frames = []
    for time in range(3):
        rate = torch.full((1, MAPS, *model.places), -6.0).double()
        rate[0, 0, 1, time + 1] = 2.0
        frames.append(rate.flatten(1))
    still = LinearMap.build(LinearMapSettings(map="diagonal"), model).double()
    moving = LinearMap.build(LinearMapSettings(map="diagonal", reach=1), model).double()
    with torch.no_grad():
        moving.moves.fill_(-20.0)
        moving.moves[0, 0, 1, 0] = 1.0  # from one place before
        moving.diagonal.fill_(-5.0)

    def cost(carryover):
        total = 0.0
        for before, after in itertools.pairwise(frames):
            prior = carryover(model.prior(), FilterState(before, torch.ones(1, dtype=torch.int64)))
            total += torch.distributions.kl_divergence(model.posterior(after), prior).sum().item()
        return total

    assert cost(moving) < 0.5 * cost(still)


def test_film_is_filtered_whole():
    """Frames of another size than the crops, each with the prior that the one before made."""
    model = model_of()
    carryover = learned(LinearMap.build(LinearMapSettings(reach=1), model)).requires_grad_(False)
    film = torch.randint(0, 255, (4, 12, 9), generator=seeded(0)).to(torch.uint8)
    prepare = Preparation(DataSettings(data="video"), SIDES, {"scale": 2.0}, atom_size=model.atom_size)
    inputs = prepare(film.numpy())
    assert inputs.x.shape == (4, 12, 9)
    assert "4 frames of film of 12x9 pixels" in inputs.taken
    frames = inputs.sequences().double()
    found = filter_sequence(model, Optimal(), frames, carryover)
    state, larger = None, model.at((12, 9))
    for time in range(4):
        _, prior, state = filter_step(larger, Optimal(), frames[:, time].flatten(1), carryover, state)
        assert_close(found.prior[:, time], prior.u)


def test_what_does_not_fit_is_refused():
    model = model_of()
    dense = build_model(PoissonVAESettings(latents=6), (4, 4))
    with pytest.raises(InputError, match="`reach=2` is of maps; use `decoder=convolutional`"):
        LinearMap.build(LinearMapSettings(reach=2), dense)
    with pytest.raises(InputError, match="reach is 1 and the map low-rank; expected"):
        LinearMap.build(LinearMapSettings(map="low-rank", reach=1), model)
    frames = torch.zeros(1, 2, model.size).double()
    for kind in (Leaky, Gated, Adaptive):
        with pytest.raises(InputError, match=f"carryover {kind.__name__} is for 4 parameters and this model has 3"):
            filter_sequence(model, LCAUnrolled(), frames, kind(4))
