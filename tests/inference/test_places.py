"""Engines with parameters on convolutional dictionaries: they go along with the places of the
atoms, so that what was learned on crops runs on data of any size."""

import pytest
import torch
from families import seeded
from torch.testing import assert_close

import itervae
from itervae import InputError
from itervae.inference import LISTA, Amortized, FISTAUnrolled, build_engine, infer
from itervae.inference.engines.ista import ProximalDescent
from itervae.inference.engines.learned import proximal_features
from itervae.inference.engines.place_encoders import PlaceEncoder
from itervae.inference.problem import Problem
from itervae.model import (
    ConvolutionalDecoder,
    GaussianLikelihood,
    GaussianVAESettings,
    GenerativeModel,
    LinearDecoder,
    PoissonPrior,
    PoissonVAESettings,
    build_model,
)

LEARNED = {
    "linear": ("amortized", {}),
    "conv": ("amortized", {"encoder": "conv"}),
    "semi-amortized": ("semi-amortized", {"steps": 2}),
    "recurrent": ("recurrent", {"steps": 2}),
    "lista": ("lista", {"steps": 2, "matrices": True}),
    "lista, tied": ("lista", {"steps": 2, "tied": True, "hidden": 0}),
}


def model_on(shape=(14, 12), maps=3, width=4, stride=2, kind=PoissonVAESettings, **settings) -> GenerativeModel:
    made = kind(latents=maps, decoder="convolutional", atom_size=width, stride=stride, **settings)
    return build_model(made, shape).requires_grad_(False)


def moved(module: torch.nn.Module, size: float = 0.3) -> None:
    """Give parameters other values, as training does."""
    draw = seeded(5)
    with torch.no_grad():
        for value in module.parameters():
            value += size * torch.randn(value.shape, generator=draw)


@pytest.mark.parametrize(
    ("shape", "width", "stride"), [((13,), 4, 1), ((2, 9, 7), 4, 3), ((1, 5, 6, 4), 3, 2), ((3, 2), 5, 2)]
)
def test_the_linear_encoder_may_be_the_adjoint_of_the_dictionary(shape, width, stride):
    model = model_on(shape, 3, width, stride)
    engine = build_engine("amortized", model)
    with torch.no_grad():
        engine.encoder.layers[0].weight.copy_(model.decoder.weight)
    x = torch.randn(2, *shape, generator=seeded(1))
    found = infer(model, engine, x).posterior.log_rate - model.prior().u
    assert_close(found, model.operator().adjoint(x.flatten(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ["linear", "conv"])
@pytest.mark.parametrize("kind", [PoissonVAESettings, GaussianVAESettings])
def test_an_encoder_says_of_a_place_the_same_in_a_crop_as_in_the_whole(encoder, kind):
    model = model_on(kind=kind)
    engine = build_engine("amortized", model, encoder=encoder)
    moved(engine, 0.1)
    whole = model.at((40, 36))
    x = torch.randn(1, 40, 36, generator=seeded(1))
    crop = x[:, 6:38, 4:32]

    def maps(x):
        found = infer(model, engine, x).state.u.unflatten(1, (model.prior().parts * 3, -1))
        return found.unflatten(2, model.at(x.shape[1:]).decoder.operator().places)

    first = [grid.before for grid in whole.operator().grids]
    own = [grid.before for grid in model.at(crop.shape[1:]).operator().grids]
    shift = [(corner - a + b) // 2 for corner, a, b in zip((6, 4), own, first, strict=True)]
    assert [(corner - a + b) % 2 for corner, a, b in zip((6, 4), own, first, strict=True)] == [0, 0]
    one, other = maps(x)[0], maps(crop)[0]
    height, width = other.shape[1:]
    other, one = (
        other[:, 6 : height - 6, 6 : width - 6],
        one[:, shift[0] + 6 : shift[0] + height - 6, shift[1] + 6 : shift[1] + width - 6],
    )
    assert other.shape[1] >= 4
    assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert one.std() > 0.01


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_trained_on_crops_runs_on_the_whole(name, tmp_path):
    kind, settings = LEARNED[name]
    model = model_on().requires_grad_()
    engine = build_engine(kind, model, **settings)
    x = torch.randn(40, 14, 12, generator=seeded(1))
    itervae.train(model, engine, x, tmp_path / "run", updates=2, batch_size=8, device="cpu")
    loaded, again = itervae.load(tmp_path / "run")
    y = torch.randn(2, 21, 30, generator=seeded(2))
    found = infer(loaded, again, y)
    larger = loaded.at((21, 30))
    assert larger.maps(found.posterior.mean).shape == (2, 3, 12, 17)
    assert larger.signal(larger.decode(found.posterior.mean)).shape == y.shape
    assert torch.equal(found.posterior.u, infer(larger, again, y.flatten(1)).posterior.u)
    assert_close(loaded.free_energy(y, found.posterior).total, larger.free_energy(y.flatten(1), found.posterior).total)


@pytest.mark.parametrize("matrices", [False, True])
def test_lista_starts_as_fista_and_has_scalars_for_each_map(matrices, monkeypatch):
    monkeypatch.setattr(ProximalDescent, "places", lambda self, energy: 1)  # as LISTA has one κ for a datum
    model = model_on()
    engine = build_engine("lista", model, steps=4, matrices=matrices)
    assert engine.layers[0].scalars.shape == (3, 3)
    x = torch.randn(3, 20, 17, generator=seeded(1))
    assert_close(infer(model, engine, x).posterior.mean, infer(model, FISTAUnrolled(4), x).posterior.mean)
    with torch.no_grad():
        engine.layers[0].scalars[1, 1] = 0.5  # the threshold of one map at the first step
    fitted = model.at((20, 17))
    problem = Problem(fitted, x.flatten(1), fitted.prior())
    modulation, _ = engine.modulate(problem.energy, engine.init(problem, None))
    thresholds = fitted.maps(modulation[..., 1])
    assert_close(thresholds[:, 1], torch.full_like(thresholds[:, 1], 0.5))
    assert (thresholds[:, [0, 2]] == 0).all()


def test_lista_on_a_convolution_is_lista_on_the_matrix_of_its_columns():
    model = model_on((6, 5)).double()
    places = model.prior.places
    dense = GenerativeModel(model.prior, LinearDecoder(30, model.latents), GaussianLikelihood(), (30,)).double()
    with torch.no_grad():
        dense.decoder.weight.copy_(model.decode(torch.eye(model.latents, dtype=torch.float64)).mT)
    engine = build_engine("lista", model, steps=3, hidden=0, matrices=True).double()
    other = LISTA(3, hidden=0, matrices=True, latents=model.latents).double()
    with torch.no_grad():
        for one, two in zip(engine.layers, other.layers, strict=True):
            one.mixing.copy_(0.1 * torch.randn(3, 3, generator=seeded(3)))
            two.mixing.copy_(torch.kron(one.mixing, torch.eye(places)))
            one.scalars.copy_(torch.tensor([0.3, -0.2, 0.1]))
            two.scalars.copy_(one.scalars[0])
    x = torch.randn(4, 30, generator=seeded(1), dtype=torch.float64)
    assert_close(infer(model, engine, x).posterior.mean, infer(dense, other, x).posterior.mean)


def test_the_features_of_a_latent_do_not_grow_with_the_data():
    """At the prior all places have the same rate, and the curvature of a window is that of any."""
    engine = build_engine("recurrent", model_on(), steps=2)
    found = []
    for shape in ((20, 16), (20, 32), (40, 64)):
        model = model_on(shape)
        problem = Problem(model, torch.zeros(1, model.size), model.prior())
        features = proximal_features(problem.energy, engine.init(problem, None))
        found.append(features[0, 0, 4].item())
    rate = model.prior.log_rate.exp()
    norms = model.decoder.weight.square().sum((1, 2, 3)) / model.likelihood.variance
    expected = torch.log1p((rate * norms).sum() * 16 / 4) / 3  # 16 values, a place in 4
    assert found == pytest.approx([expected.item()] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda m: build_engine("amortized", m, encoder="mlp"), "encoder mlp is for data of one size.*linear or conv"),
        (lambda m: build_engine("semi-amortized", m, start_encoder="mlp"), "encoder mlp is for data of one size"),
        (lambda m: build_engine("amortized", m, encoder="cnov"), "`encoder` is 'cnov'"),
        (
            lambda m: infer(model_on(width=3), build_engine("amortized", m), torch.zeros(1, 14, 12)),
            r"atoms of \(1, 4, 4\), and this model has atoms of \(1, 3, 3\); train one on this model",
        ),
        (
            lambda m: infer(model_on(stride=3), build_engine("amortized", m), torch.zeros(1, 14, 12)),
            r"gives \(1, 216\) for 1 data; expected \(1, 90\)",
        ),
        (
            lambda m: infer(
                GenerativeModel(PoissonPrior(4), LinearDecoder(9, 4), GaussianLikelihood(), (9,)),
                build_engine("amortized", m),
                torch.zeros(1, 9),
            ),
            "this model has a LinearDecoder; train one on this model",
        ),
        (
            lambda m: infer(model_on(maps=4), build_engine("lista", m), torch.zeros(1, 14, 12)),
            "scalars for 3 maps and the model has 4; train it on this model",
        ),
        (lambda m: infer(m, FISTAUnrolled(), torch.zeros(1, 2, 14, 12)), r"shape is \(2, 14, 12\); expected \(N, N\)"),
        (lambda m: infer(m, FISTAUnrolled(), torch.zeros(2, 13)), "x has 13 values per datum"),
        (lambda m: m.free_energy(torch.zeros(1, 20, 12), m.posterior(torch.zeros(1, m.latents))), "the posterior"),
    ],
)
def test_what_does_not_fit_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        given(model_on())


def test_an_encoder_of_ones_own_is_made_for_the_size_of_the_crops():
    class Own(torch.nn.Linear):
        def __init__(self, shape, outputs):
            super().__init__(shape[0] * shape[1], outputs)

    model = model_on()
    engine = build_engine("amortized", model, encoder=Own)
    assert infer(model, engine, torch.zeros(1, 168)).posterior.mean.shape == (1, model.latents)
    with pytest.raises(InputError, match="the encoder of Amortized takes 168 values per datum, and these have 400"):
        infer(model, engine, torch.zeros(1, 20, 20))


def test_signals_of_one_dimension_meet_the_model_as_rows():
    decoder = ConvolutionalDecoder((30,), 2, 5, stride=2)
    model = GenerativeModel(PoissonPrior(2, places=decoder.places), decoder, GaussianLikelihood(), (30,))
    engine = Amortized(PlaceEncoder("linear", decoder, 2, bias=False))
    found = infer(model, engine, torch.zeros(3, 50))
    assert model.at((50,)).maps(found.posterior.mean).shape == (3, 2, 27)
