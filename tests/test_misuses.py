"""Misuses of the Python interface: each is refused in one sentence with the value, what was
expected and what to do."""

import copy
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import itervae
from itervae import InputError
from itervae.distributions import Gaussian, RelaxedPoisson, total_kl
from itervae.evaluation import amortization_gap, encode, least_errors, marginal_likelihood, rate_points
from itervae.evaluation.sequences import measure_sequences
from itervae.inference import (
    LCAODE,
    LISTA,
    Amortized,
    FISTAUnrolled,
    Implicit,
    LCAUnrolled,
    Optimal,
    Recurrent,
    SemiAmortized,
    SpikingLCA,
    State,
    Truncate,
    certificate,
)
from itervae.model import (
    ConvDecoder,
    GaussianLikelihood,
    GaussianPrior,
    GaussianVAESettings,
    GenerativeModel,
    LinearDecoder,
    MLPDecoder,
    PoissonLikelihood,
    PoissonPrior,
    PoissonVAESettings,
    SparseCodingSettings,
    SparsityPrior,
    build_model,
    save_dictionary,
    sparse_coding_model,
)
from itervae.plotting import save
from itervae.sequence import (
    Adaptive,
    FilterState,
    Gated,
    Leaky,
    Level,
    LinearMap,
    LinearMapSettings,
    Mixing,
    NoCarryover,
    SequenceSettings,
)
from itervae.sklearn import GaussianVAE, PoissonVAE, SparseCoding
from itervae.training import RunSettings

D, K, N = 16, 5, 4


class Narrow(nn.Module):
    """A network of another width than it should have."""

    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(K, size)

    def forward(self, z):
        return self.layer(z)


def narrow(size):
    return GenerativeModel(PoissonPrior(K), Narrow(size), GaussianLikelihood(), (D,))


@pytest.fixture(scope="module")
def the(tmp_path_factory):
    """What is misused."""
    folder = tmp_path_factory.mktemp("misuses")
    generator = torch.Generator().manual_seed(0)
    dictionary = torch.randn(D, K, generator=generator)
    np.save(folder / "phi.npy", dictionary.numpy())
    np.savez(folder / "rates.npz", dictionary=dictionary.numpy(), log_rate=np.full(K, np.nan))
    poisson = build_model(PoissonVAESettings(latents=K), (4, 4))
    x = torch.randn(N, D, generator=generator)
    frames = torch.randn(N, 3, D, generator=generator)
    return SimpleNamespace(
        folder=folder,
        dictionary=dictionary,
        poisson=poisson,
        gaussian=build_model(GaussianVAESettings(latents=K), (4, 4)),
        coding=build_model(SparseCodingSettings(latents=K), (4, 4)),
        mlp=build_model(PoissonVAESettings(latents=K, decoder="mlp"), (4, 4)),
        counted=build_model(PoissonVAESettings(latents=K, likelihood="poisson"), (4, 4)),
        engine=LCAUnrolled(3),
        x=x,
        rows=x.numpy(),
        frames=frames,
        posterior=poisson.posterior(torch.zeros(N, K)),
        state=FilterState(torch.zeros(N, K), torch.ones(N, dtype=torch.int64)),
    )


def meta(module):
    """The same on a device without values, which stands for any other."""
    return copy.deepcopy(module).to("meta")


infer, filter_step, filter_sequence = itervae.infer, itervae.filter_step, itervae.filter_sequence

MISUSES = {
    # what load_sae is given
    "SAE nowhere": (
        lambda t: itervae.load_sae(t.folder / "no"),
        r"no holds none of .*; expected the folder",
    ),
    "SAE a file": (lambda t: itervae.load_sae(t.folder / "phi.npy"), r"phi.npy holds none of .*; expected the folder"),
    "SAE threshold 0": (lambda t: itervae.load_sae(t.folder, threshold=0), r"`threshold` is 0; expected a positive"),
    "least error of counts": (
        lambda t: least_errors(t.poisson, t.x, torch.zeros(N, K)),
        r"prior of the model is a PoissonPrior; expected that of sparse coding",
    ),
    # what infer is given
    "x of words": (lambda t: infer(t.poisson, t.engine, [["a"] * 16]), r"x is a list of <U1; expected .* numbers"),
    "x ragged": (lambda t: infer(t.poisson, t.engine, [[1.0], [1.0, 2.0]]), r"x is a list that makes no array"),
    "x of tensors": (lambda t: infer(t.poisson, t.engine, list(t.x)), r"x is a list of 4 tensors; .*torch.stack"),
    "x complex array": (lambda t: infer(t.poisson, t.engine, t.x.numpy() * 1j), r"x is an? ndarray of complex64; exp"),
    "Poisson of words": (lambda t: RelaxedPoisson("rates"), r"log_rate is 'rates'; expected a tensor"),
    "x None": (lambda t: infer(t.poisson, t.engine, None), r"x is None; expected a tensor"),
    "x of one datum": (lambda t: infer(t.poisson, t.engine, t.x[0]), r"x has shape \(16,\); expected \(B, D\)"),
    "x complex": (lambda t: infer(t.poisson, t.engine, t.x.cfloat()), r"x holds torch.complex64"),
    "x transposed": (lambda t: infer(t.poisson, t.engine, t.x.mT), r"x has 4 values per datum.*16.*transpose it"),
    "x of another width": (lambda t: infer(t.poisson, t.engine, t.x[:, :7]), r"x has 7 values per datum.* 16"),
    "x NaN": (lambda t: infer(t.poisson, t.engine, t.x / 0 * 0), r"NaN or infinite values in 4 of 4 data"),
    "x elsewhere": (lambda t: infer(t.poisson, t.engine, t.x.to("meta")), r"x is on meta and the model is on cpu"),
    "x sparse": (lambda t: infer(t.poisson, t.engine, t.x.to_sparse()), r"x is .*sparse.*; expected .*to_dense"),
    "model and engine swapped": (lambda t: infer(t.engine, t.poisson, t.x), r"model is a LCAUnrolled; expected a Gen"),
    "what load gives as model": (
        lambda t: infer((t.poisson, t.engine), t.engine, t.x),
        r"model is a tuple; .*e.load",
    ),
    "model as a path": (lambda t: infer("runs/my-run", t.engine, t.x), r"model is 'runs/my-run'; .* itervae.load"),
    "model elsewhere": (lambda t: infer(meta(t.poisson), t.engine, t.x), r"x is on cpu and the model is on meta"),
    "all on meta": (lambda t: infer(meta(t.poisson), t.engine, t.x.to("meta")), r"meta.*holds no values"),
    "engine by name": (lambda t: infer(t.poisson, "optimal", t.x), r"engine is 'optimal', a name; expected an engine"),
    "engine by class": (lambda t: infer(t.poisson, Optimal, t.x), r"engine is the class Optimal; .*Optimal\(...\)"),
    "engine None": (lambda t: infer(t.poisson, None, t.x), r"engine is None; expected an engine"),
    "engine that does not fit": (lambda t: infer(t.mlp, Optimal(), t.x), r"Optimal needs a model with .*linear dec"),
    "engine of other data": (
        lambda t: infer(t.poisson, Amortized(nn.Linear(7, K)), t.x),
        r"Amortized.* 7 .* 16 values; train one on this model",
    ),
    "engine of another width": (
        lambda t: infer(t.poisson, Amortized(nn.Linear(D, 1)), t.x),
        r"the encoder of Amortized gives \(4, 1\) for 4 data; expected \(4, 5\).*: train one on this model",
    ),
    "engine of another family": (
        lambda t: infer(t.gaussian, Recurrent(2, parts=1), t.x),
        r"Recurrent.* 1 parameter.* 2; .*parts=2",
    ),
    "steps 2.5": (lambda t: infer(t.poisson, t.engine, t.x, steps=2.5), r"steps is 2.5; expected a whole number ≥ 0"),
    "steps '3'": (lambda t: infer(t.poisson, t.engine, t.x, steps="3"), r"steps is '3'; expected a whole number"),
    "steps True": (lambda t: infer(t.poisson, t.engine, t.x, steps=True), r"steps is True; expected a whole number"),
    "steps -1": (lambda t: infer(t.poisson, t.engine, t.x, steps=-1), r"steps is -1; expected"),
    "gradient by name": (lambda t: infer(t.poisson, t.engine, t.x, gradient="unroll"), r"gradient is 'unroll'"),
    "gradient by class": (lambda t: infer(t.poisson, t.engine, t.x, gradient=Implicit), r"gradient is the class Impl"),
    "record a name": (lambda t: infer(t.poisson, t.engine, t.x, record="u"), r"record is 'u'; .*\('u',\)"),
    "record unknown": (
        lambda t: infer(t.poisson, t.engine, t.x, record=("energy",)),
        r"cannot record energy; expected",
    ),
    "record a number": (lambda t: infer(t.poisson, t.engine, t.x, record=3), r"record is 3; expected a collection"),
    "record of numbers": (lambda t: infer(t.poisson, t.engine, t.x, record=(1, "u")), r"cannot record 1; expected"),
    "generator a seed": (lambda t: infer(t.poisson, t.engine, t.x, generator=0), r"generator is 0; .*manual_seed"),
    "prior a module": (lambda t: infer(t.poisson, t.engine, t.x, prior=t.poisson.prior), r"prior is a PoissonPrior"),
    "prior a tensor": (lambda t: infer(t.poisson, t.engine, t.x, prior=torch.zeros(K)), r"prior is a Tensor; expected"),
    "prior of another family": (
        lambda t: infer(t.poisson, t.engine, t.x, prior=Gaussian(torch.zeros(2 * K))),
        r"prior is a Gaussian; this model has a RelaxedPoisson",
    ),
    "prior of another width": (
        lambda t: infer(t.poisson, t.engine, t.x, prior=RelaxedPoisson(torch.zeros(7))),
        r"prior has parameters of shape \(7,\); expected \(5,\)",
    ),
    "state a tensor": (lambda t: infer(t.poisson, t.engine, t.x, state=torch.zeros(N, K)), r"state is a Tensor; .*St"),
    "state of a filter": (
        lambda t: infer(t.poisson, t.engine, t.x, state=t.state),
        r"state is a FilterState; expected",
    ),
    "state of NumPy": (lambda t: State(np.zeros((N, K))), r"u is an? ndarray; expected a tensor"),
    "state integer": (
        lambda t: infer(t.poisson, t.engine, t.x, state=State(torch.zeros(N, K, dtype=torch.int64))),
        r"state holds torch.int64; expected floating-point",
    ),
    "state of other data": (
        lambda t: infer(t.poisson, t.engine, t.x, state=State(torch.zeros(9, K))),
        r"state has shape \(9, 5\); expected \(4, 5\)",
    ),
    # engines
    "LCA steps 2.5": (lambda t: LCAUnrolled(2.5), r"steps is 2.5; expected a whole number ≥ 1"),
    "FISTA steps '5'": (lambda t: FISTAUnrolled("5"), r"steps is '5'; expected a whole number ≥ 1"),
    "LCA steps True": (lambda t: LCAUnrolled(steps=True), r"steps is True; expected a whole number ≥ 1"),
    "LCA steps 0": (lambda t: LCAUnrolled(0), r"steps is 0; expected a number ≥ 1"),
    "LCA steps None": (lambda t: LCAUnrolled(None), r"steps is None; expected a whole number ≥ 1"),
    "LCA of a model": (lambda t: LCAUnrolled(t.poisson), r"steps is a GenerativeModel; expected a whole number"),
    "Optimal tolerance 'x'": (lambda t: Optimal(tolerance="x"), r"tolerance is 'x'; expected a positive number"),
    "Optimal tolerance 0": (lambda t: Optimal(tolerance=0), r"tolerance is 0; expected a positive number"),
    "Optimal tolerance NaN": (lambda t: Optimal(tolerance=float("nan")), r"tolerance is nan; expected a positive"),
    "spiking step size": (lambda t: SpikingLCA(step_size="big"), r"step_size is 'big'; expected a positive number"),
    "spiking clamps": (lambda t: SpikingLCA(clamps="softly"), r"clamps is 'softly'; did you mean soft\?"),
    "ODE method": (lambda t: LCAODE(method="rk5"), r"method is 'rk5'; did you mean rk4\? expected one of euler"),
    "ODE tolerance": (lambda t: LCAODE(tolerance=[1]), r"tolerance is a list; expected a positive number"),
    "LISTA hidden": (lambda t: LISTA(hidden=1.5), r"hidden is 1.5; expected a whole number ≥ 0"),
    "LISTA matrices without a size": (lambda t: LISTA(matrices=True), r"latents is 0, and matrices are"),
    "recurrent hidden": (lambda t: Recurrent(hidden="16"), r"hidden is '16'; expected a whole number ≥ 1"),
    "encoder by name": (lambda t: Amortized("mlp"), r"encoder is 'mlp'; expected a module.*Amortized.build"),
    "refiner by name": (
        lambda t: SemiAmortized(Amortized(nn.Linear(D, K)), "lca-unrolled"),
        r"engine is 'lca-unrolled', a name",
    ),
    "start by encoder": (
        lambda t: SemiAmortized(nn.Linear(D, K), t.engine),
        r"encoder is a Linear; expected .*Amor",
    ),
    "truncate 2.5": (lambda t: Truncate(2.5), r"steps is 2.5; expected a whole number ≥ 0"),
    "truncate -1": (lambda t: Truncate(-1), r"steps is -1; expected"),
    "engine settings by number": (
        lambda t: LCAUnrolled.build({"steps": 3}, t.poisson, (4, 4)),
        r"settings is a dict; expected LCASettings",
    ),
    # distributions
    "Poisson temperature": (lambda t: RelaxedPoisson(torch.zeros(3), "cold"), r"temperature is 'cold'; expected a"),
    "Poisson indicator": (lambda t: RelaxedPoisson(torch.zeros(3), 0.1, "cubist"), r"did you mean cubic\?"),
    "Gaussian of a number": (lambda t: Gaussian(torch.zeros(())), r"u has shape \(\); expected \(..., 2K\)"),
    "KL between families": (
        lambda t: total_kl(t.posterior, Gaussian(torch.zeros(2 * K))),
        r"posterior is a RelaxedPoisson and the prior a Gaussian; expected both of one family",
    ),
    # the free energy and certificates
    "free energy without a posterior": (lambda t: t.poisson.free_energy(t.x, None), r"posterior is None; expected a"),
    "free energy of parameters": (
        lambda t: t.poisson.free_energy(t.x, torch.zeros(N, K)),
        r"posterior is a Tensor; expected .* model.posterior\(u\)",
    ),
    "free energy, swapped": (lambda t: t.poisson.free_energy(t.posterior, t.x), r"x is a RelaxedPoisson; expected a t"),
    "free energy of an inference": (
        lambda t: t.poisson.free_energy(t.x, infer(t.poisson, t.engine, t.x)),
        r"posterior is an Inference; expected a distribution.*\.posterior",
    ),
    "free energy of another family": (
        lambda t: t.poisson.free_energy(t.x, Gaussian(torch.zeros(N, 2 * K))),
        r"posterior is a Gaussian; this model has a RelaxedPoisson",
    ),
    "free energy under another family": (
        lambda t: t.poisson.free_energy(t.x, t.posterior, Gaussian(torch.zeros(2 * K))),
        r"prior is a Gaussian; this model has a RelaxedPoisson",
    ),
    "free energy under a prior of another width": (
        lambda t: t.poisson.free_energy(t.x, t.posterior, RelaxedPoisson(torch.zeros(1))),
        r"prior has parameters of shape \(1,\); expected \(5,\) or \(4, 5\)",
    ),
    "free energy elsewhere": (lambda t: t.poisson.free_energy(t.x.to("meta"), t.posterior), r"x is on meta"),
    "estimator unknown": (
        lambda t: t.poisson.free_energy(t.x, t.posterior, estimator="exakt"),
        r"estimator is 'exakt'; this model has exact, eat",
    ),
    "samples 2.5": (lambda t: t.mlp.free_energy(t.x, t.posterior, samples=2.5), r"samples is 2.5; expected a whole"),
    "certificate of parameters": (
        lambda t: certificate(t.poisson, t.x, torch.zeros(N, K)),
        r"posterior is a Tensor; expected",
    ),
    "certificate of other data": (lambda t: certificate(t.poisson, t.x[:2], t.posterior), r"\(4, 5\).*\(2, 5\)"),
    "certificate, swapped": (lambda t: certificate(t.x, t.poisson, t.posterior), r"model is a Tensor; expected"),
    "certificate elsewhere": (lambda t: certificate(t.poisson, t.x.to("meta"), t.posterior), r"x is on meta"),
    "decode another width": (
        lambda t: t.poisson.decode(torch.zeros(N, 7)),
        r"z has shape \(4, 7\); expected .*5",
    ),
    "sample 2.5": (lambda t: t.poisson.sample(2.5), r"n is 2.5; expected a whole number"),
    # models
    "decoder of width 1": (lambda t: infer(narrow(1), t.engine, t.x), r"the decoder gives \(4, 1\) .*16"),
    "free energy, width 1": (
        lambda t: narrow(1).free_energy(t.x, t.posterior),
        r"the decoder gives \(1, 4, 1\) for z of .*; expected \(..., 16\).*: make it one of 16 outputs",
    ),
    "decode, width 7": (lambda t: narrow(7).decode(torch.zeros(N, K)), r"the decoder gives \(4, 7\)"),
    "gap, width 1": (
        lambda t: amortization_gap(narrow(1), {"lca": (t.engine, None)}, t.x),
        r"the decoder gives \(.*, 1\)",
    ),
    "marginal, width 1": (
        lambda t: marginal_likelihood(narrow(1), t.x, t.posterior, samples=(1, 2)),
        r"the decoder gives \(.*, 1\)",
    ),
    "linear decoder of width 1": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(1, K), GaussianLikelihood(), (D,)),
        r"dictionary has shape \(1, 5\); expected \(16, 5\)",
    ),
    "linear decoder transposed": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(K, D), GaussianLikelihood(), (D,)),
        r"dictionary has shape \(5, 16\); expected \(16, 5\).*transpose it",
    ),
    "prior a distribution": (
        lambda t: GenerativeModel(RelaxedPoisson(torch.zeros(K)), LinearDecoder(D, K), GaussianLikelihood(), (D,)),
        r"prior is a RelaxedPoisson; expected .*PoissonPrior",
    ),
    "prior a class": (
        lambda t: GenerativeModel(PoissonPrior, LinearDecoder(D, K), GaussianLikelihood(), (D,)),
        r"prior is the class PoissonPrior; expected",
    ),
    "decoder by name": (
        lambda t: GenerativeModel(PoissonPrior(K), "linear", GaussianLikelihood(), (D,)),
        r"decoder is 'linear'; expected a module",
    ),
    "decoder a tensor": (
        lambda t: GenerativeModel(PoissonPrior(K), t.dictionary, GaussianLikelihood(), (D,)),
        r"decoder is a Tensor; expected a module.*LinearDecoder",
    ),
    "likelihood by name": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), "gaussian", (D,)),
        r"likelihood is 'gaussian'; expected",
    ),
    "shape a number": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), D),
        r"shape is 16; expected .*\(16,\)",
    ),
    "shape of text": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), ("4", "4")),
        r"shape is .*; expected whole numbers",
    ),
    "beta NaN": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), (D,), float("nan")),
        r"beta is nan; expected a positive number",
    ),
    "beta infinite": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), (D,), float("inf")),
        r"beta is inf; expected a positive number",
    ),
    "beta text": (
        lambda t: GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), GaussianLikelihood(), (D,), "1"),
        r"beta is '1'; expected a positive number",
    ),
    "variance text": (lambda t: GaussianLikelihood("0.5"), r"observation variance is '0.5'; expected a positive"),
    "variance negative": (lambda t: GaussianLikelihood(-1), r"observation variance is -1; expected a positive"),
    "latents 0": (lambda t: PoissonPrior(0), r"latents is 0; expected a number ≥ 1"),
    "latents 2.5": (lambda t: GaussianPrior(2.5), r"latents is 2.5; expected a whole number ≥ 1"),
    "prior rates NaN": (lambda t: PoissonPrior(K, float("nan"), 0.0), r"low is nan; expected a finite number"),
    "prior rates swapped": (lambda t: PoissonPrior(K, -4.0, -6.0), r"low is -4.0 and high -6.0; expected"),
    "indicator unknown": (lambda t: PoissonPrior(K, indicator="sigmod"), r"did you mean sigmoid\?"),
    "threshold text": (lambda t: SparsityPrior(K, "1"), r"threshold is '1'; expected a positive number"),
    "decoder sizes": (lambda t: LinearDecoder(D, 0), r"latents is 0; expected a number ≥ 1"),
    "decoder widths": (lambda t: MLPDecoder(D, K, 512), r"hidden is 512; expected .*\(512,\)"),
    "conv shape": (lambda t: ConvDecoder((5, 5), K), r"\(5, 5\) do not fit a conv"),
    # building and dictionaries
    "settings by name": (
        lambda t: build_model("poisson-vae", (4, 4)),
        r"settings is 'poisson-vae'; expected .*Settings",
    ),
    "settings by class": (lambda t: build_model(PoissonVAESettings, (4, 4)), r"settings is the class PoissonVAES"),
    "settings, shape a number": (lambda t: build_model(PoissonVAESettings(K), D), r"shape is 16; expected .*\(16,\)"),
    "settings, swapped": (lambda t: build_model((4, 4), PoissonVAESettings(K)), r"settings is a tuple; expected"),
    "latents text": (
        lambda t: build_model(PoissonVAESettings("5"), (4, 4)),
        r"`latents` is '5'; expected a whole number",
    ),
    "decoder unknown": (
        lambda t: build_model(PoissonVAESettings(K, decoder="linaer"), (4, 4)),
        r"`decoder` is 'linaer'; did you mean linear\?",
    ),
    "likelihood unknown": (
        lambda t: build_model(PoissonVAESettings(K, likelihood="bernouli"), (4, 4)),
        r"`likelihood` is 'bernouli'; did you mean bernoulli\?",
    ),
    "prior unknown": (
        lambda t: build_model(PoissonVAESettings(K, prior="learnt"), (4, 4)),
        r"`prior` is 'learnt'; did you mean learned\?",
    ),
    "flag as text": (
        lambda t: build_model(PoissonVAESettings(K, unit_norm="no"), (4, 4)),
        r"`unit_norm` is 'no'; expected True or False",
    ),
    "seed -1": (lambda t: build_model(PoissonVAESettings(K), (4, 4), -1), r"seed is -1; expected a whole number"),
    "seed text": (lambda t: build_model(PoissonVAESettings(K), (4, 4), "0"), r"seed is '0'; expected a whole number"),
    "seed 2^64": (lambda t: build_model(PoissonVAESettings(K), (4, 4), 2**64), r"seed is 18446744073709551616; exp"),
    "start_log_rate NaN": (
        lambda t: build_model(PoissonVAESettings(K, start_log_rate=float("nan")), (4, 4)),
        r"`start_log_rate` is nan; expected",
    ),
    "threshold NaN": (
        lambda t: build_model(SparseCodingSettings(K, float("nan")), (4, 4)),
        r"`threshold` is nan; expected a positive number",
    ),
    "one atom": (
        lambda t: sparse_coding_model(t.dictionary[:, 0], SparseCodingSettings(K), (4, 4)),
        r"dictionary has shape \(16,\); expected \(D, K\)",
    ),
    "atoms transposed": (
        lambda t: sparse_coding_model(t.dictionary.mT, SparseCodingSettings(K), (4, 4)),
        r"dictionary has shape \(5, 16\) and .* 16 values.*transpose it",
    ),
    "atoms of another size": (
        lambda t: sparse_coding_model(t.dictionary, SparseCodingSettings(K), (5, 5)),
        r"dictionary has shape \(16, 5\).*25",
    ),
    "atoms NaN": (
        lambda t: sparse_coding_model(t.dictionary * float("nan"), SparseCodingSettings(K), (4, 4)),
        r"dictionary has NaN or infinite values",
    ),
    "atoms, settings of a VAE": (
        lambda t: sparse_coding_model(t.dictionary, PoissonVAESettings(K), (4, 4)),
        r"settings is a PoissonVAESettings; expected SparseCodingSettings",
    ),
    "load None": (lambda t: itervae.load_dictionary(None), r"path is None; expected a path"),
    "load an array": (lambda t: itervae.load_dictionary(t.dictionary.numpy()), r"path is an? ndarray; expected a path"),
    "load a folder": (lambda t: itervae.load_dictionary(t.folder), r"is a folder; expected a file of an array"),
    "load nothing": (lambda t: itervae.load_dictionary(t.folder / "no.npz"), r"no dictionary file at .*no.npz; exp"),
    "load NUL": (lambda t: itervae.load_dictionary("a\0b.npz"), r"no dictionary file at .*; expected"),
    "load a long name": (lambda t: itervae.load_dictionary("a" * 300 + ".npz"), r"no dictionary file at a*.npz; exp"),
    "load, atoms": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", atoms="row"),
        r"atoms is 'row'; .*expected one of columns, rows|atoms is 'row'; did you mean rows",
    ),
    "load, a shape that does not fit": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", shape=(3, 4)),
        rf"shape of .*phi.npy is \(3, 4\); expected one of {D} values",
    ),
    "load, a shape of its rows": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", shape=(K,)),
        r"its atoms may lie in its rows, atoms='rows'",
    ),
    "load, key of one array": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", key="a"),
        r"the key 'a' does not apply to .*phi.npy, which holds one array; leave it out",
    ),
    "load, no such key": (
        lambda t: itervae.load_dictionary(t.folder / "rates.npz", key="a"),
        r"rates.npz has no array 'a'; it holds dictionary, log_rate: name one",
    ),
    "Poisson likelihood, a link": (lambda t: PoissonLikelihood(D, "log"), r"link is 'log'; .*expected one of"),
    "Poisson likelihood, no size": (lambda t: PoissonLikelihood(0), r"size is 0; expected a number ≥ 1"),
    "data that are no counts": (
        lambda t: infer(t.counted, Amortized.build(Amortized.Settings(), t.counted, (4, 4)), t.x),
        r"`likelihood=poisson` needs counts: .*, and row 0 of x holds .* in column \d+; use gaussian",
    ),
    "a Poisson likelihood with an engine for a Gaussian one": (
        lambda t: infer(t.counted, itervae.inference.FISTAUnrolled(), t.x.round().abs()),
        r"FISTAUnrolled.*Gaussian likelihood",
    ),
    "load, log_rate NaN": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", log_rate=float("nan")),
        r"`log_rate` is nan; expected a log-rate from -30 to 5",
    ),
    "load, log_rate text": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", log_rate="-5"),
        r"`log_rate` is '-5'; expected a log-rate",
    ),
    "load, log_rate an array": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", log_rate=np.zeros(K)),
        r"`log_rate` is an? ndarray; expected a log-rate",
    ),
    "load, log_rate huge": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", log_rate=1000),
        r"`log_rate` is 1000; expected a log-rate from -30 to 5",
    ),
    "load, rates NaN": (lambda t: itervae.load_dictionary(t.folder / "rates.npz"), r"log_rate of .* holds nan"),
    "load, variance NaN": (
        lambda t: itervae.load_dictionary(t.folder / "phi.npy", observation_variance=float("nan")),
        r"`observation_variance` is nan; expected",
    ),
    "save, swapped": (lambda t: save_dictionary(t.folder / "o.npz", t.poisson), r"model is a PosixPath; expected"),
    "save to None": (lambda t: save_dictionary(t.poisson, None), r"path is None; expected a path"),
    "save to a folder": (lambda t: save_dictionary(t.poisson, t.folder), r"expected a name ending in .npz"),
    "save by another suffix": (lambda t: save_dictionary(t.poisson, "phi.txt"), r"phi.txt; expected a name ending"),
    "save a network": (lambda t: save_dictionary(t.mlp, t.folder / "o.npz"), r"MLPDecoder.* no dictionary; expected"),
    "figure to None": (lambda t: save(None, None), r"path is None; expected a path"),
    # sequences
    "frames None": (lambda t: filter_sequence(t.poisson, t.engine, None, NoCarryover()), r"frames is None; expected"),
    "frames of lists": (
        lambda t: filter_sequence(t.poisson, t.engine, t.frames.tolist(), NoCarryover()),
        r"frames is a list of lists, .*which of them is time; expected an array \(B, T, D\)",
    ),
    "frames of one sequence": (
        lambda t: filter_sequence(t.poisson, t.engine, t.frames[0], NoCarryover()),
        r"frames have the shape \(3, 16\); expected \(B, T, D\)",
    ),
    "no frames": (lambda t: filter_sequence(t.poisson, t.engine, [], NoCarryover()), r"no frame to filter; expected"),
    "frames elsewhere": (
        lambda t: filter_sequence(t.poisson, t.engine, t.frames.to("meta"), NoCarryover()),
        r"on meta and the model is on cpu",
    ),
    "carryover by name": (
        lambda t: filter_step(t.poisson, t.engine, t.x, "leaky"),
        r"carryover is 'leaky', a name; expected a carryover, such as Leaky",
    ),
    "carryover by class": (
        lambda t: filter_step(t.poisson, t.engine, t.x, Leaky),
        r"carryover is the class Leaky; expected one of its objects",
    ),
    "carryover None": (lambda t: filter_step(t.poisson, t.engine, t.x, None), r"carryover is None; .*NoCarryover\(\)"),
    "carryover and x swapped": (
        lambda t: filter_step(t.poisson, t.engine, NoCarryover(), t.x),
        r"x is a NoCarryover; expected a tensor",
    ),
    "carryover of another family": (
        lambda t: filter_step(t.gaussian, Recurrent(2, parts=2), t.x, Mixing(2 * K)),
        r"carryover Mixing mixes rates, and this model has a Gaussian; use",
    ),
    "carryover of another size": (
        lambda t: filter_step(t.poisson, t.engine, t.x, Leaky(7)),
        r"carryover Leaky is for 7 parameters and this model has 5; make it Leaky\(5\)",
    ),
    "adaptive of another size": (
        lambda t: filter_step(t.poisson, t.engine, t.x, Adaptive(1)),
        r"carryover Adaptive is for 1 parameters and this model has 5",
    ),
    "level of another size": (
        lambda t: filter_step(t.poisson, t.engine, t.x, Level(1)),
        r"carryover Level is for 1 parameters and this model has 5; make it Level\(5\)",
    ),
    "carryover elsewhere": (
        lambda t: filter_step(t.poisson, t.engine, t.x, meta(Leaky(K)), t.state),
        r"x is on cpu and the carryover is on meta",
    ),
    "carryover of sparse codes": (
        lambda t: filter_step(t.coding, t.engine, t.x, NoCarryover()),
        r"a sparse code has no posterior to hand to the next frame; use a VAE",
    ),
    "filter state of infer": (
        lambda t: filter_step(t.poisson, t.engine, t.x, NoCarryover(), State(torch.zeros(N, K))),
        r"state is a State; expected a FilterState",
    ),
    "filter state of others": (
        lambda t: filter_step(t.poisson, t.engine, t.x[:2], NoCarryover(), t.state),
        r"the state is that of 4 sequences",
    ),
    "filter state elsewhere": (
        lambda t: filter_step(
            t.poisson, t.engine, t.x, NoCarryover(), FilterState(t.state.u.to("meta"), t.state.age.to("meta"))
        ),
        r"x is on cpu and the state is on meta",
    ),
    "filter state of NumPy": (lambda t: FilterState(np.zeros((N, K)), np.ones(N)), r"u is an? ndarray; expected"),
    "filter state NaN": (
        lambda t: filter_step(t.poisson, t.engine, t.x, NoCarryover(), FilterState(t.state.u / 0, t.state.age)),
        r"the state has NaN or infinite parameters in 4 of 4 data",
    ),
    "start unknown": (
        lambda t: filter_step(t.poisson, t.engine, t.x, NoCarryover(), start="previus"),
        r"start is 'previus'; did you mean previous\?",
    ),
    "filter, what load gives": (
        lambda t: filter_step((t.poisson, t.engine), t.engine, t.x, NoCarryover()),
        r"model is a tuple; expected",
    ),
    "filter, engine by name": (
        lambda t: filter_step(t.poisson, "optimal", t.x, NoCarryover()),
        r"engine is 'optimal', a name",
    ),
    "leaky size": (lambda t: Leaky("5"), r"size is '5'; expected a whole number ≥ 1"),
    "linear kind": (lambda t: LinearMap(K, "diagnal"), r"kind is 'diagnal'; did you mean diagonal\?"),
    "linear rank": (lambda t: LinearMap(K, "low-rank", 2.5), r"rank is 2.5; expected a whole number ≥ 1"),
    "gated hidden": (lambda t: Gated(K, 0), r"hidden is 0; expected a number ≥ 1"),
    "adaptive experts": (lambda t: Adaptive(K, "8"), r"experts is '8'; expected a whole number ≥ 2"),
    "carryover settings": (
        lambda t: RunSettings(sequence=SequenceSettings(carryover="leeky")),
        r"carryover is 'leeky'; did you mean leaky\?",
    ),
    "linear settings": (
        lambda t: LinearMap.build(LinearMapSettings("diagnal"), t.poisson),
        r"`map` is 'diagnal'; did you mean diagonal\?",
    ),
    "linear settings of another": (
        lambda t: Leaky.build(LinearMapSettings(), t.poisson),
        r"settings is a LinearMapSettings; expected NoSettings",
    ),
    "carryover of a sparse code": (
        lambda t: LinearMap.build(
            LinearMapSettings(), sparse_coding_model(torch.randn(D, K), SparseCodingSettings(), (D,))
        ),
        r"a sparse code has no posterior to hand",
    ),
    # evaluation
    "gap of one engine": (
        lambda t: amortization_gap(t.poisson, t.engine, t.x),
        r"engines is a LCAUnrolled; expected .*\(engine, steps\)",
    ),
    "gap without pairs": (
        lambda t: amortization_gap(t.poisson, {"lca": t.engine}, t.x),
        r"engines\['lca'\] is a LCAUnrolled; expected a pair \(engine, steps\)",
    ),
    "gap of a list": (
        lambda t: amortization_gap(t.poisson, [("lca", t.engine, 3)], t.x),
        r"engines is a list; expected a dict",
    ),
    "gap of names": (
        lambda t: amortization_gap(t.poisson, {"lca": ("lca-unrolled", 3)}, t.x),
        r"engine is 'lca-unrolled', a name",
    ),
    "gap of classes": (
        lambda t: amortization_gap(t.poisson, {"lca": (LCAUnrolled, 3)}, t.x),
        r"engine is the class LCAUnrolled",
    ),
    "gap, steps '3'": (
        lambda t: amortization_gap(t.poisson, {"lca": (t.engine, "3")}, t.x),
        r"steps is '3'; expected a whole number",
    ),
    "gap of no data": (lambda t: amortization_gap(t.poisson, {"lca": (t.engine, 3)}, t.x[:0]), r"no data to measure"),
    "gap of one datum": (
        lambda t: amortization_gap(t.poisson, {"lca": (t.engine, 3)}, t.x[0]),
        r"x has shape \(16,\); expected \(B, D\)",
    ),
    "gap of constant data": (
        lambda t: amortization_gap(t.poisson, {"lca": (t.engine, 3)}, torch.ones(N, D)),
        r"all 4 data are the same; expected",
    ),
    "gap of sparse codes": (
        lambda t: amortization_gap(
            sparse_coding_model(t.dictionary, SparseCodingSettings(K, shrinkage="hard"), (4, 4)),
            {"lca": (t.engine, 3)},
            t.x,
        ),
        r"cost is not convex, so its least energy cannot be proved; use a soft",
    ),
    "gap, tolerance": (
        lambda t: amortization_gap(t.poisson, {"lca": (t.engine, 3)}, t.x, tolerance=-1.0),
        r"tolerance is -1.0; expected a positive number",
    ),
    "gap, seed": (
        lambda t: amortization_gap(t.poisson, {"lca": (t.engine, 3)}, t.x, seed=-1),
        r"seed is -1; expected a whole number",
    ),
    "gap, model swapped": (
        lambda t: amortization_gap({"lca": (t.engine, 3)}, t.poisson, t.x),
        r"engines is a GenerativeModel; expected a dict",
    ),
    "codes by name": (lambda t: encode(t.poisson, "optimal", t.x), r"engine is 'optimal', a name"),
    "codes of no data": (lambda t: encode(t.poisson, t.engine, t.x[:0]), r"no data to measure"),
    "rates of constant data": (
        lambda t: rate_points(t.poisson, t.engine, torch.zeros(N, D), family="f", setting="s", order=1.0),
        r"all 4 data are the same; expected",
    ),
    "marginal of parameters": (
        lambda t: marginal_likelihood(t.poisson, t.x, torch.zeros(N, K)),
        r"posterior is a Tensor; expected",
    ),
    "marginal, samples a number": (
        lambda t: marginal_likelihood(t.poisson, t.x, t.posterior, samples=10),
        r"samples is 10; expected increasing numbers .*\(10,\)",
    ),
    "sequences of a tuple": (
        lambda t: measure_sequences((t.poisson, t.engine, NoCarryover()), {"clip": t.frames}),
        r"candidates is a tuple; expected a dict",
    ),
    "sequences, steps a number": (
        lambda t: measure_sequences({"none": (t.poisson, t.engine, NoCarryover())}, {"clip": t.frames}, steps=3),
        r"steps is 3; expected .*\(3,\)",
    ),
    "sequences without triples": (
        lambda t: measure_sequences({"none": (t.poisson, t.engine)}, {"clip": t.frames}),
        r"candidates\['none'\] is a tuple; expected .*\(model, engine, carryover\)",
    ),
    # estimators
    "estimator, no engine": (
        lambda t: PoissonVAE(K, inference="lca").fit(t.rows),
        r"inference engine 'lca' is unknown; did you mean lca-\w+\? expected one of amortized, lca-unrolled",
    ),
    "estimator, engine an object": (
        lambda t: PoissonVAE(K, inference=t.engine).fit(t.rows),
        r"inference is an? LCAUnrolled; expected the name of an engine.* or its class",
    ),
    "estimator, engine of another model": (
        lambda t: GaussianVAE(K, inference="lca-unrolled").fit(t.rows),
        r"lca-unrolled needs a model with .*; engines that fit: amortized",
    ),
    "estimator, steps of an engine without": (
        lambda t: PoissonVAE(K, inference="amortized:3").fit(t.rows),
        r"inference 'amortized:3' was given steps = 3; expected some of encoder",
    ),
    "estimator, setting unknown": (
        lambda t: PoissonVAE(K, inference_params={"tol": 1}).fit(t.rows),
        r"inference 'lca-unrolled' was given tol = 1; expected some of steps",
    ),
    "estimator, settings a list": (
        lambda t: PoissonVAE(K, inference_params=["steps"]).fit(t.rows),
        r"inference_params is a list; expected settings by name, \{'steps': 20\}",
    ),
    "estimator, setting of another kind": (
        lambda t: PoissonVAE(K, inference_params={"steps": "many"}).fit(t.rows),
        r"`steps` is 'many'; expected a whole number",
    ),
    "estimator, another engine that is learned": (
        lambda t: PoissonVAE(K, max_iter=1).fit(t.rows).set_params(inference="lista").transform(t.rows),
        r"inference is 'lista', which has to be trained with the model; call fit, or use an engine",
    ),
    "estimator, no components": (
        lambda t: PoissonVAE(0).fit(t.rows),
        r"n_components is 0; expected a number ≥ 1",
    ),
    "estimator, components a share": (
        lambda t: GaussianVAE(0.5).fit(t.rows),
        r"n_components is 0.5; expected a whole number ≥ 1",
    ),
    "estimator, no updates": (lambda t: PoissonVAE(max_iter=0).fit(t.rows), r"max_iter is 0; expected a number ≥ 1"),
    "estimator, batch a share": (
        lambda t: PoissonVAE(batch_size=0.1).fit(t.rows),
        r"batch_size is 0.1; expected a whole number ≥ 1",
    ),
    "estimator, learning rate 0": (
        lambda t: PoissonVAE(learning_rate=0).fit(t.rows),
        r"learning_rate is 0; expected a positive number",
    ),
    "estimator, beta 0": (lambda t: PoissonVAE(beta=0).fit(t.rows), r"`beta` is 0.*; expected a positive number"),
    "estimator, variance a name": (
        lambda t: GaussianVAE(observation_variance="learned").fit(t.rows),
        r"`observation_variance` is 'learned'; expected a number",
    ),
    "estimator, alpha 0": (lambda t: SparseCoding(alpha=0).fit(t.rows), r"alpha is 0; expected a positive number"),
    "estimator, positive a word": (
        lambda t: SparseCoding(positive_code="yes").fit(t.rows),
        r"positive_code is 'yes'; expected True or False",
    ),
    "estimator, data float32 cannot hold": (
        lambda t: PoissonVAE(K).fit(np.full((N, D), 1e300)),
        r"X holds 1e\+300 at row 0, column 0, which is no finite 32-bit number; remove",
    ),
    "estimator, dictionary transposed": (
        lambda t: SparseCoding(dictionary=t.dictionary.numpy()).fit(t.rows),
        r"dictionary has shape \(16, 5\); expected \(n_components, n_features\), here \(any, 16\).*transpose it",
    ),
    "estimator, dictionary of other components": (
        lambda t: SparseCoding(4, dictionary=t.dictionary.mT.numpy()).transform(t.rows),
        r"dictionary has shape \(5, 16\); expected .*\(4, any\)",
    ),
    "estimator, engine learned on a given dictionary": (
        lambda t: SparseCoding(dictionary=t.dictionary.mT.numpy(), inference="amortized").transform(t.rows),
        r"inference is 'amortized', which has to be trained with the model",
    ),
    "estimator, codes transposed": (
        lambda t: GaussianVAE(K, max_iter=1).fit(t.rows).inverse_transform(np.ones((K, N))),
        r"X has 4 codes per datum; expected 5, one per component",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_one_sentence(the, name):
    misuse, pattern = MISUSES[name]
    with pytest.raises(InputError) as refused:
        misuse(the)
    message = str(refused.value)
    assert re.search(pattern, message), message
    assert "\n" not in message
    remedies = "expected|use |pass |make |leave |name |train |transpose |remove |export |that fit"
    assert re.search(remedies, message), message
