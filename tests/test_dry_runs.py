"""What runs on a GPU, run without one: everything is on its device, and nothing waits that need
not.

Two ways. Under torch's FakeTensorMode tensors on "cuda" have shapes and no numbers, so a tensor on
the wrong device raises; back-propagation needs a real GPU there. So the rest runs on the CPU along
the ways of a GPU (`devices.on_cpu` says no, and the sampler's kernel is stood in for), with real
numbers. In both, each look at a number is counted: it is where the host would wait.
"""

import dataclasses
import traceback
from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from itervae import InputError, devices
from itervae.distributions import RelaxedPoisson, arrivals
from itervae.inference import ENGINES, GRADIENTS, infer
from itervae.model import (
    CategoricalVAESettings,
    GaussianVAESettings,
    LaplaceVAESettings,
    PoissonVAESettings,
    SparseCodingSettings,
    build_model,
)
from itervae.sequence import CARRYOVERS, SequenceSettings, filter_step

triton = find_spec("triton")
OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11)
"""Whether torch asks the driver for some operations on fake tensors too."""
pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.skipif(OLD, reason="fake CUDA tensors without a driver need torch 2.11, as scripts/gpu does"),
]

MODELS = {
    "poisson": PoissonVAESettings(latents=8),
    "poisson-mlp": PoissonVAESettings(latents=8, decoder="mlp"),
    "poisson-bernoulli": PoissonVAESettings(latents=8, decoder="mlp", likelihood="bernoulli"),
    "gaussian": GaussianVAESettings(latents=8),
    "gaussian-relu": GaussianVAESettings(latents=8, activation="relu"),
    "laplace": LaplaceVAESettings(latents=8),
    "laplace-mlp": LaplaceVAESettings(latents=8, decoder="mlp"),
    "categorical": CategoricalVAESettings(latents=8),
    "sparse": SparseCodingSettings(latents=8),
    "sparse-hard": SparseCodingSettings(latents=8, shrinkage="hard", signed=True),
}
MAY_WAIT = {
    "optimal": ({}, "it stops each datum by its own certificate, which is looked at"),
    "lca-ode": ({"method": "dopri5"}, "the length of a substep depends on the error of the last one"),
}
"""Engines that wait more often than once a call, with which settings, and why."""
MAY_LOOK = {
    "inference/energies/closed_form.py": "the certificate of a Gaussian: whether its linear system was solved",
}
"""Files that may look once more a call, and why."""
LOOKS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.bincount.default,
}
"""Operations whose answer, or the shape of it, the host has to wait for."""


class Waits(TorchDispatchMode):
    """Counts the looks at numbers; a look at a number that is not there finds one."""

    def __init__(self, numbers: bool) -> None:
        super().__init__()
        self.numbers, self.places, self.kernels = numbers, [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func.namespace == "itervae":
            self.kernels.add(func.__name__.partition(".")[0])
        if func in LOOKS or masks:
            stack = traceback.extract_stack()
            own = [frame for frame in stack if "/itervae/" in frame.filename]
            if any("/torch/optim/" in frame.filename for frame in stack):  # it counts its steps on the host
                return func(*args, **(kwargs or {}))
            self.places.append(f"{own[-1].filename.rpartition('/itervae/')[2]}:{own[-1].lineno}")
            if not self.numbers and func is torch.ops.aten._local_scalar_dense.default:
                return args[0].dtype == torch.bool
        return func(*args, **(kwargs or {}))


def build(model, name, **settings):
    kind = ENGINES[name]
    return kind.build(kind.Settings(**settings), model, model.shape)


def fitting_pairs(names=ENGINES):
    for case, settings in MODELS.items():
        capabilities = build_model(settings, (8, 8)).capabilities
        for name in names:
            if ENGINES[name].requires <= capabilities:
                yield pytest.param(case, name, id=f"{case}-{name}")


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The ways of a GPU, on a CPU. The kernel of the sampler, which runs on a GPU or interpreted,
    is stood in for by counts in the whole window."""

    def add_window(z, rate, window, temperature, cubic, integer, generator):
        z += torch.poisson(rate * (1 - window[0]), generator=generator)
        return rate.clone()

    from itervae.distributions import arrivals_triton

    monkeypatch.setattr(devices, "on_cpu", lambda value: False)
    monkeypatch.setattr(arrivals, "_in_one_kernel", lambda rate: rate.dtype == torch.float32)
    monkeypatch.setattr(arrivals_triton, "add_window", add_window)


FAKE = [
    ("poisson", name)
    for name in (
        "amortized",
        "lca-unrolled",
        "ista-unrolled",
        "fista-unrolled",
        "lista",
        "semi-amortized",
        "lca-ode",
        "spiking-lca",
    )
] + [
    (case, "amortized") for case in MODELS if case != "poisson" and not case.startswith(("sparse", "poisson-bernoulli"))
]


FUSED = {"lca-unrolled", "ista-unrolled", "fista-unrolled", "semi-amortized"}
KERNELS = {"propose", "settle", "gaps"}


@pytest.mark.parametrize(("case", "name"), FAKE, ids=map("-".join, FAKE))
def test_everything_is_on_the_device(case, name):
    """Without gradient, on tensors of a GPU that is not there; one look at the end of the call."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), torch.no_grad():
        model = build_model(MODELS[case], (8, 8))
        engine = build(model, name)
        x = torch.randn(5, 64)
        with Waits(numbers=False) as waits:
            found = infer(model, engine, x)
        assert found.state.u.device.type == found.posterior.mean.device.type == "cuda"
        assert all(value.device.type == "cuda" for value in found.stats.values())
        assert len(waits.places) == 1, waits.places
        assert (waits.kernels >= KERNELS) == (triton is not None and name in FUSED)
        with pytest.raises(InputError, match="x is on cpu and the model is on cuda"):
            infer(model, engine, torch.randn(5, 64, device="cpu"))


class Launches(TorchDispatchMode):
    """Counts the operations that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace != "prim" and not func.is_view and func is not torch.ops.aten.new_empty.default:
            self.counts[func.__name__.partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(triton is None, reason="without triton steps are in tensors")
@pytest.mark.parametrize("name", sorted(FUSED))
@pytest.mark.parametrize(("latents", "products"), [(64, {"mm": 1}), (200, {"mm": 2, "sub_": 1})])
def test_a_step_launches_its_products_and_one_kernel(latents, products, name):
    """By the Gram matrix, and by the residual Φμ − x; however many steps there are."""
    counts = {}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), torch.no_grad():
        model = build_model(PoissonVAESettings(latents=latents), (8, 8))
        for steps in (2, 5):
            engine = build(model, name, steps=steps)
            with Waits(numbers=False), Launches() as launches:
                infer(model, engine, torch.randn(5, 64))
            counts[steps] = launches.counts
    a_step = {kernel: count / 3 for kernel, count in (counts[5] - counts[2]).items()}
    assert a_step == products | {"settle": 1}


PASSES = ("clamp", "moments", "misfit", "misfit_back", "moments_back", "clamp_back")
"""The kernels of what an update of an encoder does to arrays of the batch beside its products."""
UPDATES = {"poisson": (47, 116), "gaussian": (51, 99), "laplace": (51, 139)}
"""Launches of such an update up to the gradient, most of them on a few numbers; and in tensors."""


def update_launches(case, compiled, monkeypatch):
    """What an update of a linear encoder launches up to the gradient, as `Launches` counts it."""
    monkeypatch.setattr(devices, "on_cpu", lambda value: False)
    monkeypatch.setattr(devices, "takes_triton", lambda value: compiled)
    with FakeTensorMode(allow_non_fake_inputs=True):  # on the CPU, or there would be no way back
        model = build_model(MODELS[case], (8, 8))
        engine, x = build(model, "amortized"), torch.randn(5, 64)
        with Waits(numbers=False) as waits, devices.put_off(), Launches() as launches:
            found = infer(model, engine, x)
            model.free_energy(x, found.posterior).total.mean().backward()
            assert waits.places == []
    assert all(value.grad is not None for module in (model, engine) for value in module.parameters())
    return launches.counts


@pytest.mark.skipif(triton is None, reason="without triton updates are in tensors")
@pytest.mark.parametrize("case", UPDATES)
def test_an_update_launches_its_products_and_a_kernel_for_each_pass(case, monkeypatch):
    """Five products: of the encoder and Φ, and back to both and to the mean."""
    fused, plain = (update_launches(case, compiled, monkeypatch) for compiled in (True, False))
    assert {name: fused[name] for name in PASSES} == dict.fromkeys(PASSES, 1)
    assert fused["mm"] + fused["addmm"] == plain["mm"] + plain["addmm"] == 5
    most, least = UPDATES[case]
    assert fused.total() <= most
    assert plain.total() >= least


@pytest.mark.skipif(triton is None, reason="without triton the pass is in tensors")
@pytest.mark.parametrize("case", UPDATES)
def test_the_exact_free_energy_of_a_gpu_is_one_pass(case):
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model, x = build_model(MODELS[case], (8, 8)), torch.randn(5, 64)
        q = model.posterior(model.prior().u.expand(5, -1).contiguous())
        with Waits(numbers=False) as waits:
            found = model.free_energy(x, q)
        assert found.total.device.type == "cuda"
        assert waits.places == []
        assert waits.kernels == {"moments", "misfit"}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("gradient", [None, *GRADIENTS])
@pytest.mark.parametrize(("case", "name"), list(fitting_pairs()))
def test_the_host_waits_once_a_call(case, name, gradient):
    """However many steps there are, with and without gradient."""
    model = build_model(MODELS[case], (8, 8))
    x = torch.rand(5, 64, generator=torch.Generator().manual_seed(0))
    counted = []
    iterative = getattr(ENGINES[name].Settings(), "steps", 0) > 0
    for steps in (1, 3) if iterative else (None,):
        engine = build(model, name, **({} if steps is None else {"steps": steps}))
        mode = GRADIENTS[gradient or "unroll"]()
        if gradient == "implicit" and (not engine.steps or engine.stochastic or not model.exact):
            return  # it is refused
        with torch.set_grad_enabled(gradient is not None), Waits(numbers=True) as waits:
            infer(model, engine, x, gradient=mode, generator=torch.Generator().manual_seed(1))
        counted.append([place for place in waits.places if place.partition(":")[0] not in MAY_LOOK])
    if MAY_WAIT.get(name, (None,))[0] != {}:
        assert [len(places) for places in counted] == [1] * len(counted), counted


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", MAY_WAIT)
def test_what_may_wait_does(name):
    model = build_model(MODELS["poisson"], (8, 8))
    with torch.no_grad(), Waits(numbers=True) as waits:
        infer(model, build(model, name, **MAY_WAIT[name][0]), torch.rand(5, 64))
    assert len(waits.places) > 1


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_is_put_off_is_raised_all_the_same():
    model = build_model(MODELS["poisson"], (8, 8))
    engine, x = build(model, "lca-unrolled"), torch.rand(4, 64)
    x[2] = torch.nan
    with pytest.raises(InputError, match="x has NaN or infinite values in 1 of 4 data"):
        infer(model, engine, x)
    with torch.no_grad():
        model.prior.log_rate[3] = torch.inf
    with pytest.raises(InputError, match="the prior has NaN or infinite parameters, 1 of 8"):
        infer(model, engine, x.nan_to_num())
    wild = RelaxedPoisson(torch.full((2, 3), 50.0))
    with pytest.raises(InputError, match="log-rates run from 50 to 50"):  # nothing puts it off here
        wild.sample()
    with pytest.raises(InputError, match="log-rates run from 50 to 50"), devices.put_off():
        assert wild.sample().isfinite().all()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", CARRYOVERS)
def test_a_frame_waits_once(name):
    model = build_model(MODELS["poisson"], (8, 8))
    carryover = CARRYOVERS[name].build(CARRYOVERS[name].Settings(), model)
    engine, x = build(model, "lca-unrolled", steps=3), torch.rand(5, 64)
    _, _, state = filter_step(model, engine, x, carryover)
    with Waits(numbers=True) as waits:
        filter_step(model, engine, x, carryover, state)
    assert len(waits.places) == 1, waits.places


ESTIMATED = [
    (case, name)
    for case, s in MODELS.items()
    if not case.startswith("sparse")
    for name in build_model(s, (8, 8)).estimators
]


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("case", "estimator"), ESTIMATED, ids=map("-".join, ESTIMATED))
def test_a_free_energy_and_its_gradient_do_not_wait(case, estimator):
    model = build_model(MODELS[case], (8, 8))
    x = torch.rand(5, 64)
    u = model.prior().u.detach().expand(5, -1).clone().requires_grad_()
    with devices.put_off() as checks, Waits(numbers=True) as waits:
        q = model.posterior(u, 0.3)
        model.free_energy(x, q, estimator=estimator, samples=2).total.sum().backward()
        if estimator != "gumbel-softmax" or not case.startswith(
            "poisson"
        ):  # the largest rate says how many counts there are
            assert waits.places == []
        checks.read()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("case", "inference", "data"),
    [
        ("poisson", "lca-unrolled", {}),
        ("poisson", "lista", {}),
        ("poisson", "semi-amortized", {}),
        ("poisson-mlp", "amortized", {}),
        ("gaussian", "amortized", {}),
        ("sparse", "fista-unrolled", {}),
        ("poisson", "lca-unrolled", {"data": "drift", "frames": 4}),
    ],
)
def test_updates_do_not_wait(case, inference, data, tmp_path):
    """Two more updates of a run cost not one look more."""
    from itervae.data import DataSettings
    from itervae.training import RunSettings, TrainingSettings, train_run

    counted = []
    for updates in (2, 4):
        options = TrainingSettings(updates=updates, batch_size=8, device="cpu")
        sequence = SequenceSettings(window=2) if data else SequenceSettings()
        settings = RunSettings(inference, DataSettings(patch_size=8, **data), MODELS[case], None, options, sequence)
        with Waits(numbers=True) as waits:
            train_run(settings, tmp_path / f"{updates}")
        counted.append(Counter(place for place in waits.places if not place.startswith("data/")))  # cut on the host
    assert counted[0] == counted[1], counted[1] - counted[0]


def test_a_run_that_diverges_on_a_gpu_is_not_saved(as_on_a_gpu, tmp_path, monkeypatch):
    from itervae.data import DataSettings
    from itervae.training import RunSettings, TrainingSettings, train_run
    from itervae.training.tasks import StillTask

    step = StillTask.step

    def broken(self, batch, temperature, generator):
        found = step(self, batch, temperature, generator)
        return dataclasses.replace(found, loss=found.loss * torch.nan)

    monkeypatch.setattr(StillTask, "step", broken)
    options = TrainingSettings(updates=5, batch_size=8, device="cpu")
    settings = RunSettings("lca-unrolled", DataSettings(patch_size=8), MODELS["poisson"], None, options)
    with pytest.raises(InputError, match="training diverged at update 5: the free energy or its gradient is not"):
        train_run(settings, tmp_path / "run")
    assert (tmp_path / "run" / "failure.json").is_file()
    assert not list((tmp_path / "run").glob("*.pt"))
