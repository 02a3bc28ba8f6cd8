"""Convolutional dictionaries: the operator is the matrix of its own columns, at every border, with
every stride, in one to three dimensions; one model serves signals of any size."""

import itertools
import math

import pytest
import torch
from families import seeded
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

import itervae
from itervae import InputError
from itervae.inference import ENGINES, LCAUnrolled, Optimal, infer
from itervae.inference.engines.ista import ProximalDescent
from itervae.model import (
    ConvolutionalDecoder,
    GaussianLikelihood,
    GaussianPrior,
    GenerativeModel,
    LinearDecoder,
    PoissonPrior,
    PoissonVAESettings,
    SparsityPrior,
    build_model,
)
from itervae.model.convolution import CONVOLVE, SPREAD, Convolution

needs_fakes = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
    reason="fake CUDA tensors without a driver need torch 2.11",
)
CASES = {
    "1-D": ((1, 13), (4,), 1),
    "1-D, odd, stride 3": ((2, 17), (5,), 3),
    "2-D": ((1, 7, 6), (3, 2), 1),
    "2-D, stride 2": ((1, 9, 8), (4, 3), 2),
    "2-D, colour, stride 3": ((3, 8, 7), (4, 4), 3),
    "2-D, stride 4": ((1, 10, 11), (4, 5), 4),
    "2-D, stride 8": ((1, 17, 9), (8, 8), 8),
    "smaller than an atom": ((1, 3, 2), (5, 4), 2),
    "3-D": ((1, 4, 5, 4), (2, 3, 2), 1),
    "3-D, colour, stride 2": ((3, 5, 4, 6), (3, 2, 4), 2),
}


def operator_of(case: str) -> Convolution:
    (channels, *sides), widths, stride = CASES[case]
    atoms = torch.randn(3, channels, *widths, generator=seeded(0), dtype=torch.float64)
    return Convolution(atoms, tuple(sides), stride)


def columns(operator: Convolution) -> torch.Tensor:
    """The matrix (D, K·P), by laying each atom down at each place and cutting it off."""
    maps, channels, *widths = operator.atoms.shape
    margin = [width + operator.stride for width in widths]
    found = []
    for k in range(maps):
        for place in itertools.product(*(range(grid.places) for grid in operator.grids)):
            scene = torch.zeros(channels, *(s + 2 * m for s, m in zip(operator.shape, margin, strict=True)))
            corner = [m - g.before + g.stride * p for g, p, m in zip(operator.grids, place, margin, strict=True)]
            scene = scene.double()
            scene[(slice(None), *(slice(c, c + w) for c, w in zip(corner, widths, strict=True)))] = operator.atoms[k]
            window = (slice(m, m + s) for s, m in zip(operator.shape, margin, strict=True))
            found.append(scene[(slice(None), *window)].flatten())
    return torch.stack(found, 1)


@pytest.mark.parametrize("case", CASES)
def test_around_a_place_are_those_from_which_atoms_reach_it(case):
    operator = operator_of(case)
    places = list(itertools.product(*map(range, operator.places)))
    widths = operator.atoms.shape[2:]
    near = [
        [all(operator.stride * abs(i - j) < width for i, j, width in zip(a, b, widths, strict=True)) for b in places]
        for a in places
    ]
    values = torch.randn(2, len(places), generator=seeded(2), dtype=torch.float64)
    assert_close(operator.around(values), values @ torch.tensor(near).double().mT)


@pytest.mark.parametrize("case", CASES)
def test_the_operator_is_the_matrix_of_its_columns(case):
    operator = operator_of(case)
    matrix = columns(operator)
    assert matrix.shape == (operator.size, operator.latents)
    z = torch.randn(2, operator.latents, generator=seeded(1), dtype=torch.float64)
    r = torch.randn(2, operator.size, generator=seeded(2), dtype=torch.float64)
    assert_close(operator.forward(z), z @ matrix.mT, rtol=1e-12, atol=1e-12)
    assert_close(operator.adjoint(r), r @ matrix, rtol=1e-12, atol=1e-12)
    assert_close(operator.atom_norms(), matrix.square().sum(0), rtol=1e-12, atol=1e-12)
    assert_close((operator.forward(z) * r).sum(), (z * operator.adjoint(r)).sum(), rtol=1e-12, atol=1e-12)
    assert_close(operator.forward(z[None])[0], operator.forward(z))
    assert (operator.atom_norms() > 0).all()  # no place from which an atom touches nothing
    assert (matrix != 0).any(1).all()  # and no value that none reaches


@needs_fakes
@pytest.mark.parametrize("case", ["1-D", "2-D, stride 2", "3-D"])
def test_float64_of_a_gpu_is_multiplied_without_cudnn(case, monkeypatch):
    """Which may take another way to the sums than certificates count on, a Fourier transform, say;
    torch itself unfolds and multiplies. All else keeps cuDNN."""
    seen = []

    def watched(product, transposed):
        def watch(values, atoms):
            n = values.ndim - 2
            about = values, atoms, None, [1] * n, [0] * n, [1] * n, transposed, [0] * n, 1
            backend = torch._C._select_conv_backend(*about) if values.is_cuda else None
            seen.append((torch.backends.cudnn.enabled, backend))
            return product(values, atoms)

        return watch

    for kinds, transposed in ((CONVOLVE, False), (SPREAD, True)):
        for n in kinds:
            monkeypatch.setitem(kinds, n, watched(kinds[n], transposed))
    operator = operator_of(case)
    for dtype, device in ((torch.float64, "cuda"), (torch.float32, "cuda"), (torch.float64, "cpu")):
        seen.clear()
        with FakeTensorMode():
            atoms = torch.empty(operator.atoms.shape, dtype=dtype, device=device)
            fake = Convolution(atoms, operator.shape, operator.stride)
            z = torch.empty(2, fake.latents, dtype=dtype, device=device)
            assert fake.adjoint(fake.forward(z)).shape == z.shape
            fake.atom_norms()
        apart = (dtype, device) == (torch.float64, "cuda")
        assert [enabled for enabled, _ in seen] == [not apart] * 3
        assert not apart or all(backend.name.startswith("Slow") for _, backend in seen)
    assert torch.backends.cudnn.enabled


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_products_on_a_gpu_are_those_of_a_cpu(case):
    operator = operator_of(case)
    z = torch.randn(2, operator.latents, generator=seeded(1), dtype=torch.float64)
    there, r = operator.map(Tensor.cuda), operator.forward(z)
    assert_close(there.forward(z.cuda()).cpu(), r, rtol=1e-13, atol=1e-13)
    assert_close(there.adjoint(r.cuda()).cpu(), operator.adjoint(r), rtol=1e-13, atol=1e-13)
    assert_close(there.atom_norms().cpu(), operator.atom_norms(), rtol=1e-13, atol=1e-13)


@needs_fakes
def test_an_error_in_float64_gives_cudnn_back(monkeypatch):
    def broken(values, atoms):
        raise RuntimeError("no memory")

    monkeypatch.setitem(SPREAD, 1, broken)
    with FakeTensorMode():
        fake = Convolution(torch.empty(3, 1, 4, dtype=torch.float64, device="cuda"), (13,))
        z = torch.empty(2, fake.latents, dtype=torch.float64, device="cuda")
        with pytest.raises(RuntimeError, match="no memory"):
            fake.forward(z)
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("case", CASES)
def test_there_is_a_place_wherever_an_atom_touches_and_both_borders_are_alike(case):
    for grid in operator_of(case).grids:
        first, last = -grid.before, grid.stride * (grid.places - 1) - grid.before
        assert -grid.width < first <= -grid.width + grid.stride
        assert grid.size - grid.stride <= last < grid.size
        assert abs(grid.before - grid.after) <= 1
        assert grid.before + grid.size + grid.after == grid.stride * (grid.places - 1) + grid.width


PRIORS = {
    "poisson": lambda places: PoissonPrior(3, -2.0, 0.0, places=places),
    "signed": lambda places: SparsityPrior(3, 0.5, signed=True, places=places),
    "gaussian": lambda places: GaussianPrior(3, learned=True, places=places),
}


def both(prior: str, case: str) -> tuple[GenerativeModel, GenerativeModel]:
    """A convolutional model, and the one with the matrix of its columns."""
    torch.manual_seed(0)
    (channels, *sides), widths, stride = CASES[case]
    decoder = ConvolutionalDecoder((channels, *sides), 3, widths, stride, channels=True)
    own = PRIORS[prior](decoder.places)
    likelihood = GaussianLikelihood(1.0 if prior == "signed" else 0.3)
    model = GenerativeModel(own, decoder, likelihood, (channels, *sides)).double()
    dense = GenerativeModel(own, LinearDecoder(model.size, model.latents), likelihood, (model.size,)).double()
    with torch.no_grad():
        dense.decoder.weight.copy_(columns(decoder.operator()))
    return model, dense


@pytest.mark.parametrize("case", ["2-D, colour, stride 3", "3-D"])
@pytest.mark.parametrize("name", ["lca-unrolled", "fista-unrolled", "ista-unrolled", "optimal", "spiking-lca"])
@pytest.mark.parametrize("prior", PRIORS)
def test_engines_and_certificates_are_those_of_the_matrix(prior, name, case, monkeypatch):
    monkeypatch.setattr(ProximalDescent, "places", lambda self, energy: 1)  # one κ for a datum, as of a matrix
    model, dense = both(prior, case)
    kind = ENGINES[name]
    if not kind.requires <= model.capabilities:
        assert prior == "gaussian" or name == "spiking-lca"
        return
    x = torch.randn(3, model.size, generator=seeded(1), dtype=torch.float64)
    found, expected = (infer(each, kind(), x, generator=seeded(2)) for each in (model, dense))
    if name == "optimal":
        assert (found.stats["certificate"] <= 1e-6).all()
        energies = [dense.free_energy(x, answer.posterior).total for answer in (found, expected)]
        assert_close(*energies, rtol=0, atol=2e-6)
    else:
        assert_close(found.posterior.mean, expected.posterior.mean, rtol=1e-9, atol=1e-10)
        assert_close(found.stats["certificate"], expected.stats["certificate"], rtol=1e-6, atol=1e-9, equal_nan=True)
        one, other = (each.free_energy(x, found.posterior).total for each in (model, dense))
        assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_one_model_serves_signals_of_any_size():
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder((12, 10), 4, 5, stride=2)
    model = GenerativeModel(PoissonPrior(4, -2.0, 0.0, places=decoder.places), decoder, GaussianLikelihood(), (12, 10))
    larger = model.at((30, 21))
    assert larger.decoder.weight is model.decoder.weight
    assert larger.prior.log_rate is model.prior.log_rate
    assert (larger.shape, larger.size, model.shape, model.size) == ((30, 21), 630, (12, 10), 120)
    found = infer(larger, Optimal(), torch.randn(2, 630, generator=seeded(1)))
    assert (found.stats["certificate"] <= 1e-6).all()
    maps = larger.maps(found.posterior.mean)
    assert maps.shape == (2, 4, 17, 13)
    assert maps.flatten(1).shape[1] == larger.latents
    assert_close(larger.prior().u.view(4, -1), model.prior.log_rate[:, None].expand(4, 17 * 13))
    assert model.at((12, 10)).latents == model.latents


def test_the_gradient_of_the_atoms_and_rates_is_that_of_the_free_energy():
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder((6, 7), 2, 3, stride=2)
    prior = PoissonPrior(2, -1.0, 0.0, places=decoder.places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(), (6, 7)).double()
    x = torch.randn(2, 42, generator=seeded(1), dtype=torch.float64)
    u = torch.randn(2, model.latents, generator=seeded(2), dtype=torch.float64)

    def energy(weight, log_rate):
        with torch.nn.utils.parametrize.cached():
            held = {"decoder.weight": weight, "prior.log_rate": log_rate}
            for name, value in held.items():
                module, _, own = name.partition(".")
                getattr(model, module)._parameters[own] = value
            return model.free_energy(x, model.posterior(u)).total.sum()

    inputs = tuple(value.detach().clone().requires_grad_() for value in (decoder.weight, prior.log_rate))
    assert torch.autograd.gradcheck(energy, inputs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: ConvolutionalDecoder((8, 8), 4, 3, stride=4), "stride is 4 and atoms are 3 wide"),
        (lambda: ConvolutionalDecoder((8, 8), 4, (3, 3, 3)), r"width is \(3, 3, 3\) for a signal of 2 dimensions"),
        (lambda: ConvolutionalDecoder((2, 2, 8, 8, 8), 4, 3), "4 dimensions beside its channels"),
        (lambda: ConvolutionalDecoder((8, 8), 4, 3).at((3, 8, 8)), r"shape is \(3, 8, 8\); expected \(N, N\)"),
        (lambda: ConvolutionalDecoder((8, 8), 0, 3), "maps is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        given()


def test_the_same_atoms_on_another_signal_are_another_operator():
    atoms = torch.ones(1, 1, 2, 2)
    assert Convolution(atoms, (4, 5), 1).equals(Convolution(atoms.clone(), (4, 5), 1))
    assert not Convolution(atoms, (4, 5), 1).equals(Convolution(atoms, (5, 4), 1))
    assert not Convolution(atoms, (4, 5), 1).equals(Convolution(atoms, (4, 5), 2))


def test_a_dictionary_that_is_a_matrix_has_one_size():
    model = GenerativeModel(PoissonPrior(4), LinearDecoder(9, 4), GaussianLikelihood(), (3, 3))
    with pytest.raises(InputError, match="expected a ConvolutionalDecoder"):
        model.at((4, 4))
    with pytest.raises(InputError, match="expected a ConvolutionalDecoder"):
        model.maps(torch.zeros(1, 4))
    assert math.prod(model.shape) == 9


def test_a_run_is_trained_kept_and_loaded(tmp_path):
    x = torch.randn(30, 8, 8, generator=seeded(1))
    settings = PoissonVAESettings(latents=3, decoder="convolutional", atom_size=3, stride=2, unit_norm=True)
    model = build_model(settings, (8, 8))
    assert model.exact
    assert model.latents == 3 * 5 * 5
    itervae.train(model, LCAUnrolled(3), x, tmp_path / "run", updates=3, batch_size=10, device="cpu")
    loaded = itervae.load(tmp_path / "run").model
    assert torch.equal(loaded.decoder.weight, model.decoder.weight)
    assert loaded.at((20, 11)).latents == 3 * 11 * 7
    atoms, shape = loaded.atoms
    assert shape == (3, 3)
    assert_close(atoms.norm(dim=0), torch.ones(3))
    assert_close(loaded.per_atom(torch.ones(2, 75)), torch.full((2, 3), 25.0))


def test_its_settings_are_of_no_other_decoder():
    with pytest.raises(InputError, match="`stride=2` is of a convolutional dictionary, and the decoder is linear"):
        build_model(PoissonVAESettings(stride=2), (8, 8))
    assert build_model(PoissonVAESettings(latents=2, decoder="convolutional"), (3, 8, 8)).decoder.stride == 2
