"""Loops as CUDA graphs, with the recording itself stood in for: there is no GPU here."""

import warnings

import pytest
import torch
from problems import random_data, random_model
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from itervae import devices
from itervae.inference import FISTAUnrolled, LCAUnrolled, infer
from itervae.inference.problem import Problem
from itervae.kernels import graphs


@pytest.fixture
def recorded(monkeypatch):
    """All that was recorded. A stand-in for a graph: it runs the same call again, and puts what it
    gives where the first one put it."""
    calls = []

    def capture(call):
        found = call()
        calls.append(found)

        def replay():
            for place, value in zip(pytree.tree_leaves(found), pytree.tree_leaves(call()), strict=True):
                place.copy_(value)

        return replay, found

    monkeypatch.setattr(graphs, "_capture", capture)
    monkeypatch.setattr(graphs, "_kept", graphs.OrderedDict())
    monkeypatch.setattr(graphs, "_failed", False)
    return calls


def double(given):
    x, rest = given
    return {"twice": 2 * x, "sum": x + rest["y"]}


def of(number, size=3):
    x = torch.full((2, size), float(number))
    return x, {"y": torch.ones(size).expand(2, size)}


def test_it_is_recorded_at_its_second_use_and_answers_as_the_loop(recorded):
    kept = []
    for number in range(5):
        with torch.inference_mode(number % 2 == 1):  # recorded in one mode, used in both
            given = of(number)
            found = graphs.run(double, given, "double")
        assert all(torch.equal(found[name], value) for name, value in double(of(number)).items())
        assert all(map(torch.equal, pytree.tree_leaves(given), pytree.tree_leaves(of(number))))
        kept.append(found)
        assert len(recorded) == min(number, 1)
    assert [found["twice"][0, 0].item() for found in kept] == [0, 2, 4, 6, 8]  # no answer is written over


def test_another_shape_precision_or_setting_is_another_graph(recorded):
    before = torch.get_float32_matmul_precision()
    for _ in range(2):
        graphs.run(double, of(1), "double")
    in_double = pytree.tree_map(torch.Tensor.double, of(1))
    for about, given in (("other", of(1)), ("double", of(1, size=4)), ("double", in_double)):
        graphs.run(double, given, about)
        assert len(recorded) == 1
    torch.set_float32_matmul_precision("high")
    try:
        graphs.run(double, of(1), "double")
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(recorded) == 1
    assert len(graphs._kept) == graphs.KEPT


def test_where_recording_fails_a_warning_says_why_once(recorded, monkeypatch):
    def broken(call):
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with …")

    monkeypatch.setattr(graphs, "_capture", broken)
    graphs.run(double, of(1), "double")
    with pytest.warns(UserWarning, match="launch by launch: operation not permitted when stream is capturing$"):
        found = graphs.run(double, of(2), "double")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is no second one
        again = graphs.run(double, of(3), "double")
    assert (found["twice"][0, 0], again["twice"][0, 0]) == (4, 6)
    assert not graphs.fits(torch.zeros(2, 2))


@pytest.fixture
def kernels(monkeypatch):
    """The ways of a GPU, with kernels that put ones where the others would put numbers."""
    descent_triton = pytest.importorskip("itervae.inference.kernels.descent_triton")

    def launch(kernel, given, changed, strides, **constants):
        for value in changed:
            value.copy_(1 + given[0].mean())

    monkeypatch.setattr(descent_triton, "_launch", launch)
    monkeypatch.setattr(devices, "on_cpu", lambda value: False)
    monkeypatch.setattr(devices, "takes_triton", lambda value: True)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("latents", [48, 72])  # by the Gram matrix, and by the residual
@pytest.mark.parametrize("kind", [LCAUnrolled, FISTAUnrolled])
def test_the_loop_of_steps_reads_nothing_but_what_it_is_given(kind, latents, monkeypatch):
    """Traced on tensors without numbers: any other tensor would be a constant of the trace."""
    seen = []

    def run(loop, given, about):
        leaves, form = pytree.tree_flatten(given)
        traced = make_fx(lambda *leaves: loop(pytree.tree_unflatten(list(leaves), form)), tracing_mode="fake")(*leaves)
        seen.append([node.op for node in traced.graph.nodes])
        targets = [str(node.target) for node in traced.graph.nodes]
        kernels = [target for target in targets if target.startswith("itervae.") and target.endswith(".default")]
        assert kernels == ["itervae.propose.default", *["itervae.settle.default"] * 3]
        return loop(given)

    monkeypatch.setattr(graphs, "fits", lambda like: True)
    monkeypatch.setattr(graphs, "run", run)
    model = random_model(32, latents).requires_grad_(False)
    infer(model, kind(3), random_data(model, 2))
    assert len(seen) == 1
    assert "get_attr" not in seen[0]


@pytest.mark.usefixtures("kernels")
def test_a_changed_model_changes_the_answer_of_the_graph(recorded, monkeypatch):
    """A parameter that was changed, or replaced, and other data."""
    monkeypatch.setattr(graphs, "fits", lambda like: True)
    model = random_model(32, 48).float().requires_grad_(False)
    engine = LCAUnrolled(3)
    for change in range(4):
        if change == 2:
            model.dictionary.mul_(0.9)
        if change == 3:
            model.decoder.dictionary = torch.nn.Parameter(0.8 * model.dictionary, requires_grad=False)
        x = torch.randn(2, 32, generator=torch.Generator().manual_seed(change))
        problem = Problem(model, x, model.prior())
        state = engine.init(problem, None)
        found = engine.repeat(problem, state, 3)
        with monkeypatch.context() as patch:
            patch.setattr(graphs, "fits", lambda like: False)
            expected = engine.repeat(problem, state, 3)
        assert found.memory.keys() == expected.memory.keys()
        for ours, theirs in ((found.u, expected.u), (found.point.data_gradient, expected.point.data_gradient)):
            assert torch.equal(ours, theirs)
    assert len(recorded) == 1


@pytest.mark.usefixtures("kernels")
def test_steps_of_ones_own_are_not_passed_over():
    class Counting(LCAUnrolled):
        steps_taken = 0

        def step(self, problem, state):
            self.steps_taken += 1
            return super().step(problem, state)

    model, engine = random_model(32, 48).requires_grad_(False), Counting(3)
    infer(model, engine, random_data(model, 2))
    assert engine.steps_taken == 3


@pytest.mark.gpu
@pytest.mark.filterwarnings("error:steps are not made")
@pytest.mark.parametrize("kind", [LCAUnrolled, FISTAUnrolled])
def test_a_graph_answers_as_the_loop_on_a_gpu(kind, monkeypatch):
    """Of three calls the last two are a graph's; the model is changed between them."""
    model = random_model(64, 128).float().requires_grad_(False).cuda()
    for call in range(3):
        model.dictionary.mul_(1 - 0.1 * call)
        x = torch.randn(300, 64, device="cuda")
        found = infer(model, kind(20), x)
        with monkeypatch.context() as patch:
            patch.setattr(graphs, "fits", lambda like: False)
            expected = infer(model, kind(20), x)
        torch.testing.assert_close(found.state.u, expected.state.u, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.stats["certificate"], expected.stats["certificate"], rtol=0.1, atol=1e-3)
    assert any(graph is not None for graph in graphs._kept.values())
