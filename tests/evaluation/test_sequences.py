"""What carryover is said to buy, against a plain computation frame by frame; and what cannot be
measured."""

import numpy as np
import pytest
import torch
from families import linear_model_of
from jaxtyping import config
from problems import any_model, random_model

from itervae import InputError
from itervae.evaluation import filters
from itervae.evaluation.filters import shuffled_orders
from itervae.evaluation.sequences import OverSequences, frames_to_filter, measure_sequences
from itervae.inference import Amortized, LCAUnrolled, Optimal, infer
from itervae.inference.engine import State
from itervae.model import ConvolutionalDecoder, GaussianLikelihood, GenerativeModel, PoissonPrior
from itervae.sequence import STARTS, Leaky, Level, Mixing, NoCarryover, filter_sequence

SIZE, LATENTS, CLIPS, FRAMES = 16, 20, 2, 4
STEPS = (1, 4)
MOST_STEPS = 6  # a frame that needs more counts as this many
WEIGHT = 0.2  # of the past in a carryover that was not trained


@pytest.fixture(scope="module", autouse=True)
def short():
    """Fewer steps than are tried otherwise; and no checks of shapes, which take half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "MOST_STEPS", MOST_STEPS)
        patch.setattr(filters, "LONG", 20)
        before = config.jaxtyping_disable
        config.update("jaxtyping_disable", True)
        yield
        config.update("jaxtyping_disable", before)


@pytest.fixture(scope="module")
def model():
    return random_model(SIZE, LATENTS, log_rate=-1.5).requires_grad_(False)


@pytest.fixture(scope="module")
def tubes():
    """Two sequences of two clips each, that change by a part of the picture per frame."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, CLIPS, FRAMES + 2, SIZE, generator=generator, dtype=torch.float64)
    smooth = 1.2 * (noise[:, :, :-2] + noise[:, :, 1:-1] + noise[:, :, 2:])
    return {"one": smooth[0], "two": smooth[1]}


@pytest.fixture(scope="module")
def report(model, tubes):
    told = {}

    def advance(name, frames):
        told[name] = told.get(name, 0) + frames

    candidates = {
        "none": (model, LCAUnrolled(), NoCarryover()),
        "mixing": (model, LCAUnrolled(), Mixing(LATENTS).double()),
    }
    found = measure_sequences(candidates, tubes, steps=STEPS, advance=advance)
    assert set(told.values()) == {2 * CLIPS * frames_to_filter(LCAUnrolled(), STEPS, FRAMES)}
    return found


def prior_after(model, name, u):
    """The parameters of the prior that follows posteriors with log-rates u."""
    static = model.prior.log_rate
    if name == "none":
        return static.expand_as(u)
    return ((1 - WEIGHT) * static.exp() + WEIGHT * u.exp()).log()


def solved(model, x, prior, engine=None, **options):
    """Log-rates and free energy of independent data under these priors."""
    given = model.posterior(prior)
    found = infer(model, engine or Optimal(), x, prior=given, **options).posterior
    return found.u, model.free_energy(x, found, given).total


def optima(model, name, clip):
    """Log-rates (T, K), priors (T, K) and free energies (T,) of a clip (T, D), each frame at its
    optimum."""
    rates, priors, energies = [], [], []
    for x in clip:
        prior = prior_after(model, name, rates[-1]) if rates else model.prior.log_rate
        u, energy = solved(model, x[None], prior[None])
        rates.append(u[0])
        priors.append(prior)
        energies.append(energy[0])
    return torch.stack(rates), torch.stack(priors), torch.stack(energies)


@pytest.fixture(scope="module")
def plain(model, tubes):
    """carryover → sequence → what `optima` gives of each clip."""
    return {
        name: {sequence: [optima(model, name, clip) for clip in clips] for sequence, clips in tubes.items()}
        for name in ("none", "mixing")
    }


def near(value):
    return pytest.approx(float(value), abs=1e-3)  # an optimum of 1e-6 nats gives the prior of the next


@pytest.mark.parametrize("name", ["none", "mixing"])
def test_the_optimum_of_every_frame_and_the_first_left_out(report, plain, name):
    assert 0 <= report.certificate_max <= 1e-6
    every = []
    for sequence, clips in plain[name].items():
        found, energies = report.sequences[sequence][name], torch.stack([energy for _, _, energy in clips])
        every.append(energies)
        assert found.frames == CLIPS * (FRAMES - 1)
        assert found.optimum == near(energies[:, 1:].mean())
        assert found.free_energy == pytest.approx(energies.mean(0).tolist(), abs=1e-3)
        assert found.spikes == near(torch.stack([u for u, _, _ in clips])[:, 1:].exp().sum(-1).mean())
    mean = report.mean[name]
    assert mean.frames == 2 * CLIPS * (FRAMES - 1)
    assert mean.optimum == near(torch.cat(every)[:, 1:].mean())
    assert mean.free_energy == pytest.approx(torch.cat(every).mean(0).tolist(), abs=1e-3)


def test_the_gain_is_against_the_first_with_its_error_over_tubes_or_sequences(report, plain):
    gains = []
    for sequence in ("one", "two"):
        none, mixing = (np.stack([e.numpy() for _, _, e in plain[name][sequence]]) for name in ("none", "mixing"))
        gain, found = (none - mixing)[:, 1:].mean(1), report.sequences[sequence]["mixing"]
        assert found.gain == near(gain.mean())
        assert found.gain_standard_error == near(gain.std(ddof=1) / len(gain) ** 0.5)
        gains.append(gain.mean())
    error = np.std(gains, ddof=1) / 2**0.5
    assert report.mean["mixing"].gain == near(np.mean(gains))
    assert report.mean["mixing"].gain_standard_error == near(error)
    assert report.mean["none"].gain == report.mean["none"].gain_standard_error == 0
    over = report.over_sequences["mixing"]
    assert set(over) == {"gain", "other_clip"}  # four frames are too few to shuffle, and there is no level
    above = sum(gain > 0 for gain in gains)
    assert over["gain"] == OverSequences(near(np.mean(gains)), near(error), above, 2)
    mean = {name: report.mean[name] for name in ("none", "mixing")}
    assert over["other_clip"].mean == near(mean["none"].optimum - mean["mixing"].shuffled_optimum)
    assert report.level is None
    assert np.isnan(mean["mixing"].beyond_level)
    assert np.isnan(mean["mixing"].within_optimum)


def test_what_holds_over_sequences_counts_each_once():
    found = OverSequences.of([1.0, -2.0, 4.0, 0.0])
    assert (found.mean, found.above_zero, found.sequences) == (0.75, 2, 4)
    assert found.standard_error == pytest.approx(np.std([1, -2, 4, 0], ddof=1) / 2)
    assert np.isnan(OverSequences.of([3.0]).standard_error)


def test_orders_keep_the_first_frame_and_part_neighbours():
    for frames in (5, 16):
        order = shuffled_orders(50, frames, seed=3)
        assert torch.equal(order.sort(1).values, torch.arange(frames).expand(50, -1))
        assert (order[:, 0] == 0).all()
        assert (order.diff(dim=1).abs() > 1).all()
        assert torch.equal(order, shuffled_orders(50, frames, seed=3))
    assert len(shuffled_orders(50, 16, seed=3).unique(dim=0)) > 40
    assert torch.equal(shuffled_orders(2, 4, seed=0), torch.arange(4).expand(2, -1))


def test_a_level_is_a_baseline_and_the_past_is_shuffled_within_the_clip(model, tubes):
    """On clips of five frames, against filters that are written out."""
    long = {name: torch.cat([x, x[:, 1:2].flip(0)], 1)[:1] for name, x in tubes.items()}
    priors = {"none": NoCarryover(), "level": Level(LATENTS).double(), "mixing": Mixing(LATENTS).double()}
    candidates = {name: (model, Optimal(), carryover) for name, carryover in priors.items()}
    report = measure_sequences(candidates, long, steps=[1])
    x = torch.cat(list(long.values()))

    shuffled = x.gather(1, shuffled_orders(2, 5, seed=0)[:, :, None].expand_as(x))
    with torch.no_grad():
        none, level, mixing, within = (
            filter_sequence(model, Optimal(), frames, priors[name]).free_energy[:, 1:].mean(1)
            for name, frames in (("none", x), ("level", x), ("mixing", x), ("mixing", shuffled))
        )
    assert report.level == "level"
    assert report.mean["level"].beyond_level == 0
    assert report.mean["mixing"].beyond_level == near((level - mixing).mean())
    assert [each["mixing"].beyond_level for each in report.sequences.values()] == [near(v) for v in level - mixing]
    assert report.mean["mixing"].within_optimum == near(within.mean())
    over = report.over_sequences
    assert "beyond_level" not in over["level"]
    assert over["mixing"]["beyond_level"].mean == near((level - mixing).mean())
    within = none - within
    assert over["mixing"]["within_clip"] == OverSequences(
        near(within.mean()), near(within.std() / 2**0.5), int((within > 0).sum()), 2
    )


@pytest.mark.parametrize("name", ["none", "mixing"])
@pytest.mark.parametrize("steps", STEPS)
def test_filters_of_a_few_steps_carry_their_own_posterior(report, model, tubes, name, steps):
    """From the safer start: at the posterior before or at the prior, whichever has the lower free
    energy."""
    for sequence, clips in tubes.items():
        u, _ = solved(model, clips[:, 0], model.prior.log_rate.expand(CLIPS, -1), LCAUnrolled(), steps=steps)
        energies = []
        for x in clips[:, 1:].unbind(1):
            prior = prior_after(model, name, u)
            given = model.posterior(prior)
            at = [model.free_energy(x, model.posterior(start), given).total for start in (prior, u)]
            start = torch.where((at[1] < at[0])[:, None], u, prior)
            u, energy = solved(model, x, prior, LCAUnrolled(), steps=steps, state=State(start))
            energies.append(energy)
        assert report.sequences[sequence][name].at_steps[str(steps)] == near(torch.stack(energies).mean())
    assert list(report.mean[name].at_steps) == [str(number) for number in STEPS]


@pytest.mark.parametrize("name", ["none", "mixing"])
def test_steps_from_each_start_are_counted(report, model, tubes, plain, name):
    """Counted one number of steps after the other, on the path of the optimal filter."""
    sequence = "one"
    needed = {(threshold, start): [] for threshold in ("1.0", "0.1") for start in STARTS}
    for clip, (rates, priors, energies) in zip(tubes[sequence], plain[name][sequence], strict=True):
        for t in range(1, FRAMES):
            x, prior, before = clip[t : t + 1], priors[t : t + 1], rates[t - 1 : t]
            given = model.posterior(prior)
            value = {
                start: model.free_energy(x, model.posterior(u), given).total
                for start, u in (("prior", prior), ("previous", before))
            }
            safer = before if value["previous"] < value["prior"] else prior
            for start, u in (("prior", None), ("previous", before), ("safer", safer)):
                count = 0
                state = None if u is None else State(u)
                for threshold in ("1.0", "0.1"):
                    while count < MOST_STEPS:
                        energy = solved(model, x, prior, LCAUnrolled(), steps=count, state=state)[1]
                        if energy - energies[t] <= float(threshold):
                            break
                        count += 1
                    needed[threshold, start].append(count)
    found = report.sequences[sequence][name].steps_to
    assert {threshold: list(starts) for threshold, starts in found.items()} == {"1.0": [*STARTS], "0.1": [*STARTS]}
    for (threshold, start), counts in needed.items():
        assert found[threshold][start] == pytest.approx(np.mean(counts)), (threshold, start)
    assert len({tuple(counts) for counts in needed.values()}) > 3
    assert MOST_STEPS in needed["0.1", "previous"]


def test_the_shuffled_past_is_that_of_a_clip_of_another_sequence(report, model, tubes, plain):
    for sequence, other in (("one", "two"), ("two", "one")):
        energies = []
        for clip, (rates, _, _) in zip(tubes[sequence], plain["mixing"][other], strict=True):
            for t in range(1, FRAMES):
                prior = prior_after(model, "mixing", rates[t - 1 : t])
                energies.append(solved(model, clip[t : t + 1], prior)[1])
        assert report.sequences[sequence]["mixing"].shuffled_optimum == near(torch.cat(energies).mean())
        none = report.sequences[sequence]["none"]
        assert none.shuffled_optimum == near(none.optimum)  # which has no past to shuffle


def test_the_shuffled_past_within_the_only_sequence(model, tubes, plain):
    one = {"one": tubes["one"]}
    found = measure_sequences({"mixing": (model, LCAUnrolled(), Mixing(LATENTS).double())}, one, steps=[1])
    energies = []
    for index, clip in enumerate(tubes["one"]):
        for t in range(1, FRAMES):
            prior = prior_after(model, "mixing", plain["mixing"]["one"][index - 1][0][t - 1 : t])
            energies.append(solved(model, clip[t : t + 1], prior)[1])
    assert found.mean["mixing"].shuffled_optimum == near(torch.cat(energies).mean())


@pytest.mark.parametrize("name", ["none", "mixing"])
def test_persistence_is_the_correlation_of_successive_rates(report, plain, name):
    def rates(sequences):
        return np.stack([u.exp().numpy() for s in sequences for u, _, _ in plain[name][s]])  # (N, T, K)

    def persistence(rate):
        before, after = rate[:, :-1].reshape(-1, LATENTS), rate[:, 1:].reshape(-1, LATENTS)
        unit = np.array([np.corrcoef(before[:, k], after[:, k])[0, 1] for k in range(LATENTS)])
        return unit, np.average(unit, weights=after.var(0))

    unit, mean = persistence(rates(("one", "two")))
    np.testing.assert_allclose(report.units[name], unit, atol=1e-3)
    assert report.mean[name].persistence == pytest.approx(mean, abs=1e-3)
    assert report.sequences["two"][name].persistence == pytest.approx(persistence(rates(["two"]))[1], abs=1e-3)
    assert mean > 0.2  # frames share noise


def test_a_single_clip_has_no_other_past_and_no_error_of_the_gain(model, tubes):
    one = {"one": tubes["one"][:1, :2]}
    found = measure_sequences({"mixing": (model, LCAUnrolled(), Mixing(LATENTS).double())}, one, steps=[1]).mean
    assert np.isnan(found["mixing"].shuffled_optimum)
    assert np.isnan(found["mixing"].gain_standard_error)
    assert np.isnan(found["mixing"].persistence)
    assert np.isfinite(found["mixing"].optimum)


def test_nothing_is_changed_behind_the_users_back(tubes):
    model, carryover = random_model(SIZE, LATENTS).float(), Mixing(LATENTS)
    x = {name: value.float() for name, value in tubes.items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = measure_sequences({"mixing": (model, LCAUnrolled(), carryover)}, x, steps=[1])
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
    assert carryover.logit.dtype == torch.float32
    assert all(parameter.grad is None for parameter in model.parameters())
    assert report.certificate_max <= 1e-6  # in float64 all the same


def test_engines_that_take_no_steps_or_stop_by_themselves(model, tubes):
    torch.manual_seed(0)
    engine = Amortized.build(Amortized.Settings(), model, model.shape).double()
    found = measure_sequences(
        {"none": (model, engine, NoCarryover()), "optimal": (model, Optimal(), NoCarryover())}, tubes, steps=[2, 100]
    ).mean
    x = torch.cat(list(tubes.values()))[:, 1:].flatten(0, 1)
    with torch.no_grad():
        expected = model.free_energy(x, infer(model, engine, x).posterior).total.mean()
    assert found["none"].at_steps == {"0": near(expected)}
    assert found["none"].steps_to == found["optimal"].steps_to == {}
    assert list(found["optimal"].at_steps) == ["2", "100"]
    assert found["optimal"].at_steps["100"] == near(found["optimal"].optimum)


def test_other_families_and_likelihoods(tubes):
    gaussian = linear_model_of("gaussian").requires_grad_(False)
    x = torch.randn(2, 3, gaussian.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    engine = Amortized.build(Amortized.Settings(), gaussian, gaussian.shape).double()
    carryover = Leaky(len(gaussian.prior().u)).double()
    found = measure_sequences({"leaky": (gaussian, engine, carryover)}, {"one": x}, steps=[1])
    assert found.certificate_max <= 1e-6
    assert np.isfinite(found.mean["leaky"].shuffled_optimum)

    sampled = any_model("mlp", latents=6).requires_grad_(False)  # whose optimum is an estimate, by the LCA
    x = torch.randn(2, 2, sampled.size, generator=torch.Generator().manual_seed(0))
    found = measure_sequences({"none": (sampled, LCAUnrolled(), NoCarryover())}, {"one": x}, steps=[1])
    assert np.isnan(found.certificate_max)
    assert np.isfinite(found.mean["none"].optimum)


def test_what_cannot_be_measured_is_refused_before_the_work(model, tubes):
    candidate = {"none": (model, LCAUnrolled(), NoCarryover())}

    def refused(message, candidates=candidate, tubes=tubes, **options):
        def worked(name, frames):
            pytest.fail("began to work")

        with pytest.raises(InputError, match=message):
            measure_sequences(candidates, tubes, advance=worked, **options)

    refused("sequences of one frame have no past; give `frames` 2", tubes={"one": tubes["one"][:, :1]})
    refused("steps is 0; expected a number ≥ 1", steps=[3, 0])
    refused("0 carryovers and 2 sequences", candidates={})
    refused("1 carryovers and 0 sequences", tubes={})
    refused(r"two has the shape \(1, 4, 16\) and the first \(2, 4, 16\)", tubes={**tubes, "two": tubes["two"][:1]})
    refused(r"one has the shape \(4, 16\)", tubes={"one": tubes["one"][0]})
    other = {**candidate, "other": (random_model(25, 30), LCAUnrolled(), NoCarryover())}
    refused("16 values each and the model of other explains 25", candidates=other)
    laplace = linear_model_of("laplace")
    engine = Amortized.build(Amortized.Settings(), laplace, laplace.shape).double()
    x = {"one": torch.zeros(2, 2, laplace.size).double()}
    unknown = {"none": (laplace, engine, NoCarryover())}
    refused("neither proved nor approached by the LCA for this model; use a Poisson VAE", unknown, x)
    with pytest.raises(InputError, match="start is 'cold'; expected one of prior, previous, safer"):
        measure_sequences(candidate, tubes, start="cold", steps=[1])


def test_without_steps_the_optima_alone_are_measured(model, tubes, report):
    candidates = {"mixing": (model, LCAUnrolled(), Mixing(LATENTS).double())}
    found = measure_sequences(candidates, tubes, steps=(), certificate=1e-2)
    assert 1e-6 < found.certificate_max <= 1e-2
    assert found.mean["mixing"].optimum == pytest.approx(report.mean["mixing"].optimum, abs=1e-2)
    assert found.mean["mixing"].at_steps == found.mean["mixing"].steps_to == {}
    assert frames_to_filter(LCAUnrolled(), (), FRAMES) == FRAMES


def test_persistence_is_that_of_maps():
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder((6, 5), 2, 3, stride=2, unit_norm=True)
    prior = PoissonPrior(2, -2.0, -1.0, places=decoder.places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(0.2), (6, 5)).double().requires_grad_(False)
    x = torch.randn(2, 3, 30, dtype=torch.float64).cumsum(1)
    found = measure_sequences({"none": (model, LCAUnrolled(), NoCarryover())}, {"clip": x}, steps=())
    rates = infer(model, Optimal(), x.flatten(0, 1)).posterior.mean.view(2, 3, 2, -1).numpy()
    expected = [np.corrcoef(rates[:, :-1, k].ravel(), rates[:, 1:, k].ravel())[0, 1] for k in range(2)]
    assert found.units["none"] == pytest.approx(expected, abs=1e-4)
