"""`itervae report`: one page about a run."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import itervae
from itervae import cli
from itervae.data import load_source
from itervae.evaluation import amortization_gap
from itervae.model import save_dictionary

KINDS = {
    "poisson": (),
    "sparse coding": ("--model", "sparse-coding", "--threshold", "0.3"),
    "gaussian": ("--family", "gaussian", "--decoder", "mlp"),
    "hard": ("--model", "sparse-coding", "--shrinkage", "hard", "--threshold", "0.3"),
}


class Page(HTMLParser):
    """The headings, tables and pictures of a page; every tag has its end."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.cells, self.images = [], [], [], 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images += 1
            kind, _, data = dict(attrs)["src"].partition(",")
            assert kind == "data:image/png;base64"
            assert base64.b64decode(data).startswith(b"\x89PNG")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 16)))
    return folder / "x.npy"


SLOW = ("gaussian", "hard")
"""Kinds of which the page is made in the slow tests."""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS])
def test_the_page_of_a_run(kind, rows, tmp_path, capsys):
    run = tmp_path / "<run>"  # escaped
    quick = ["--updates", "4", "--latents", "8", "--batch-size", "20", "--threads", "1", "--validate-every", "2"]
    cli.main(["train", "--data", "array", "--data-path", str(rows), "--run-dir", str(run), *quick, *KINDS[kind]])
    capsys.readouterr()
    cli.main(["report", str(run), "--num", "12", "--threads", "1"])
    assert capsys.readouterr().out == f"report written to {run}/report.html\n"
    page = Page((run / "report.html").read_text())
    assert page.headings[0] == str(run)
    expected = {"Curves", "Reconstructions", "Codes", "Settings"}
    expected |= {"Gap"} if kind != "hard" else set()
    expected |= {"Dictionary"} if kind != "gaussian" else set()
    assert expected <= set(page.headings)
    assert page.images >= len(expected & {"Curves", "Reconstructions", "Dictionary", "Gap"})
    assert page.cells[page.cells.index("latents") + 1] == "8"
    if kind == "poisson":
        loaded = itervae.load(run)
        held = load_source(loaded.settings.data, 0).validation[:12]
        gap = amortization_gap(loaded.model, {"own": (loaded.engine, None)}, held).engines["own"]
        place = page.cells.index("lca-unrolled", page.cells.index("engine") + 3)
        assert page.cells[place + 2] == f"{gap.free_energy_mean:.3f}"


def test_what_is_no_run_is_refused(rows, tmp_path, capsys):
    save_dictionary(itervae.build_model(itervae.model.PoissonVAESettings(latents=3), (4, 4)), tmp_path / "phi.npz")
    for words, message in (
        ((tmp_path / "phi.npz",), "is a dictionary file; expected a run of itervae train: use itervae gap"),
        ((tmp_path / "none",), "there is no checkpoint"),
        ((tmp_path / "none", "--output", tmp_path / "o.pdf"), "expected a name ending in .html"),
        ((tmp_path / "none", "--num", 1), "--num is 1; expected a number ≥ 2"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["report", *map(str, words)])
        assert stopped.value.code == 2
        assert re.search(message, capsys.readouterr().err)
