"""What answers show of themselves."""

import torch

import itervae
from itervae.inference import LCAUnrolled
from itervae.model import PoissonVAESettings, build_model
from itervae.showing import of_tensor


def test_a_tensor_in_words():
    assert of_tensor(torch.tensor([[1.0, 3.0]])) == "(1, 2) float32  mean 2, 1 to 3"
    assert of_tensor(torch.tensor([1.0, float("nan"), 3.0])) == "(3,) float32  mean 2, 1 to 3, 1 not finite"
    assert of_tensor(torch.zeros(2, dtype=torch.int64)) == "(2,) int64  all 0"
    assert of_tensor(torch.full((2,), torch.inf)) == "(2,) float32  no finite value"
    assert of_tensor(torch.zeros(0, 3)) == "(0, 3) float32"
    assert of_tensor(torch.tensor(0.5)) == "() float32  0.5"


def test_an_answer_is_a_few_lines_and_a_table():
    model = build_model(PoissonVAESettings(latents=300), (8, 8))
    found = itervae.infer(model, LCAUnrolled(3), torch.randn(40, 64), record=("free_energy",))
    text, table = repr(found), found._repr_html_()
    assert len(text.splitlines()) < 25
    assert max(map(len, text.splitlines())) < 100
    mean = found.posterior.mean.mean().item()
    for shown in (text, table):
        assert f"RelaxedPoisson of (40, 300) float32  mean {mean:.6g}" in shown
        assert "certificate" in shown
    assert table.count("<tr>") == table.count("</tr>") == len(text.splitlines()) - 1
    energy = model.free_energy(torch.zeros(40, 64), found.posterior)
    assert f"{energy.total.mean():.6g}" in repr(energy)
