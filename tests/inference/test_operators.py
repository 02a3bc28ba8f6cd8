"""A linear decoder that is no matrix: a convolution, written by its products alone, is the
dictionary of its columns.

Everything but the systems with the matrix itself holds for it: exact free energy, certificate, the
steps of every engine, and the gradients through them.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from itervae.errors import InputError
from itervae.inference import ENGINES, Envelope, Implicit, Optimal, Truncate, certificate, fitting, infer
from itervae.model import (
    CategoricalPrior,
    GaussianLikelihood,
    GaussianPrior,
    GenerativeModel,
    LaplacePrior,
    LinearDecoder,
    LinearOperator,
    OperatorDecoder,
    PoissonPrior,
    SparsityPrior,
)

MAPS, WIDTH, SIZE = 5, 4, 12
POSITIONS = SIZE - WIDTH + 1
LATENTS = MAPS * POSITIONS


@dataclass(frozen=True, eq=False)
class Convolution(LinearOperator):
    """x̂ = Σ_m z_m ∗ φ_m of atoms (M, 1, W), z (B, M·P) the maps one after the other."""

    atoms: Tensor
    size = SIZE
    latents = LATENTS
    summands = WIDTH

    def forward(self, z: Tensor) -> Tensor:
        flat = functional.conv_transpose1d(z.reshape(-1, MAPS, POSITIONS), self.atoms)
        return flat.reshape(*z.shape[:-1], SIZE)

    def adjoint(self, r: Tensor) -> Tensor:
        return functional.conv1d(r[:, None], self.atoms).flatten(1)

    def atom_norms(self) -> Tensor:
        return self.atoms.square().sum((1, 2)).repeat_interleave(POSITIONS)

    def scaled(self, divisor: Tensor) -> "Convolution":
        return Convolution(self.atoms / divisor)


class ConvolutionDecoder(OperatorDecoder):
    kind = Convolution

    def __init__(self, unit_norm: bool = False) -> None:
        super().__init__()
        self.atoms = nn.Parameter(torch.randn(MAPS, 1, WIDTH, generator=torch.Generator().manual_seed(0)))
        self.unit_norm = unit_norm

    def operator(self, dtype: torch.dtype | None = None) -> Convolution:
        atoms = self.atoms.to(dtype or self.atoms.dtype)
        return Convolution(atoms / atoms.square().sum((1, 2), keepdim=True).sqrt() if self.unit_norm else atoms)


PRIORS = {
    "poisson": lambda: PoissonPrior(LATENTS, -2.0, -1.0),
    "sparse": lambda: SparsityPrior(LATENTS, 1.0),
    "signed": lambda: SparsityPrior(LATENTS, 1.0, signed=True),
    "gaussian": lambda: GaussianPrior(LATENTS),
    "laplace": lambda: LaplacePrior(LATENTS),
    "categorical": lambda: CategoricalPrior(LATENTS),
}


def both(prior):
    """A model with the convolution, and one with the matrix of its columns, in float64."""
    torch.manual_seed(0)
    own = PRIORS[prior]()
    sparse = isinstance(own, SparsityPrior)
    likelihood = GaussianLikelihood(1.0 if sparse else 0.3)
    convolution = GenerativeModel(own, ConvolutionDecoder(sparse), likelihood, (SIZE,)).double()
    dense = GenerativeModel(own, LinearDecoder(SIZE, LATENTS), likelihood, (SIZE,)).double()
    with torch.no_grad():
        dense.decoder.weight.copy_(convolution.decode(torch.eye(LATENTS, dtype=torch.float64)).mT)
    return convolution, dense


def data(count=6):
    return 1.5 * torch.randn(count, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_products_are_those_of_the_matrix():
    convolution, dense = both("poisson")
    one, other = convolution.operator(), dense.operator()
    z, r = torch.rand(3, LATENTS, dtype=torch.float64), data(3)
    assert_close(one.forward(z), other.forward(z))
    assert_close(one.adjoint(r), other.adjoint(r))
    assert_close(one.residual(r, z), other.residual(r, z))
    assert_close(one.adjoint_residual(z, r), other.adjoint_residual(z, r))
    assert_close(one.atom_norms(), other.atom_norms())
    assert_close(one.scaled(torch.tensor(2.0)).forward(z), other.forward(z) / 2)
    assert one.gram(one) is None
    assert one.equals(convolution.operator())
    assert not one.equals(other)
    assert not one.equals(one.scaled(torch.tensor(2.0)))


@pytest.mark.parametrize("prior", PRIORS)
def test_free_energy_and_certificate(prior):
    convolution, dense = both(prior)
    x, own = data(), convolution.prior().u
    u = own + 0.3 * torch.randn(6, len(own), dtype=torch.float64)
    q = convolution.posterior(u)
    if prior not in ("sparse", "signed"):
        assert_close(convolution.free_energy(x, q).total, dense.free_energy(x, q).total)
    found, expected = (certificate(model, x, q) for model in (convolution, dense))
    if prior == "gaussian":  # its proof solves a system with the matrix
        assert found.isnan().all()
        assert expected.isfinite().all()
    else:
        assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("prior", PRIORS)
def test_every_engine_takes_the_same_steps(prior, name):
    convolution, dense = both(prior)
    kind = ENGINES[name]
    if name == "optimal" or not kind.requires <= dense.capabilities:
        assert (name in fitting(convolution)) == (name in fitting(dense) and prior != "gaussian")
        return
    torch.manual_seed(0)
    engine = kind.build(kind.Settings(), dense, dense.shape).double()
    x = data()
    found, expected = (
        infer(model, engine, x, generator=torch.Generator().manual_seed(0)) for model in (convolution, dense)
    )
    assert_close(found.state.u, expected.state.u, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("prior", ["poisson", "sparse", "signed", "categorical"])
def test_the_optimum_is_certified(prior):
    convolution, dense = both(prior)
    x = data()
    found, expected = (infer(model, Optimal(tolerance=1e-7), x) for model in (convolution, dense))
    assert (found.stats["certificate"] <= 1e-7).all()
    energies = [dense.free_energy(x, answer.posterior).total for answer in (found, expected)]
    assert_close(*energies, rtol=0, atol=2e-7)


def test_what_needs_the_matrix_says_so():
    convolution, _ = both("gaussian")
    with pytest.raises(InputError, match="Optimal needs a model with certifiable optimum"):
        infer(convolution, Optimal(), data())
    with pytest.raises(InputError, match="has a ConvolutionDecoder, whose operator is no matrix"):
        _ = convolution.dictionary


@pytest.mark.parametrize("gradient", [Envelope(), Truncate(2), Implicit()])
@pytest.mark.parametrize("prior", ["poisson", "signed"])
def test_gradients_are_those_of_the_matrix(prior, gradient):
    """Of the data, the prior and the atoms; those of the matrix are summed over the places of
    each."""
    convolution, dense = both(prior)
    steps = 400 if isinstance(gradient, Implicit) else 20
    weights = torch.randn(6, LATENTS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = []
    for model in (convolution, dense):
        x = data().requires_grad_()
        answer = infer(model, ENGINES["fista-unrolled"](steps), x, gradient=gradient).posterior
        loss = (weights * answer.mean).sum() + model.free_energy(x, answer).total.sum()
        found.append(torch.autograd.grad(loss, [x, *model.decoder.parameters()]))
    (x_one, atoms), (x_other, matrix) = found
    assert_close(x_one, x_other, rtol=1e-5, atol=1e-7)
    if prior == "poisson":  # atoms of unit norm have a gradient along themselves in the matrix alone
        by_place = matrix.mT.reshape(MAPS, POSITIONS, SIZE)
        summed = sum(by_place[:, place, place : place + WIDTH] for place in range(POSITIONS))
        assert_close(atoms[:, 0], summed, rtol=1e-5, atol=1e-7)


def test_an_operator_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"the dictionary has shape \(12, 45\); expected \(12, 44\)"):
        GenerativeModel(PoissonPrior(44), ConvolutionDecoder(), GaussianLikelihood(), (SIZE,))
