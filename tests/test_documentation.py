"""README and docs: links, size, and the examples of docs/python.md; `scripts/docs` executes the
tutorials."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch import nn

import itervae
from itervae.inference import Amortized, LCAUnrolled
from itervae.model import GaussianLikelihood, GenerativeModel, LinearDecoder, PoissonPrior

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "figures/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page):
    made = {"extending.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}  # by docs/hooks.py
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            where = ROOT / made[path] if path in made else page.parent / path
            assert where.exists(), f"{page.name}: {target}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 7000


def test_every_page_is_in_the_navigation():
    def pages(part):
        if isinstance(part, str):
            return {part}
        return set().union(*map(pages, part.values() if isinstance(part, dict) else part))

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {
        str(file.relative_to(ROOT / "docs"))
        for kind in ("*.md", "tutorials/*.py")
        for file in ROOT.glob(f"docs/**/{kind}")
    }
    assert there <= listed


class MyDecoder(LinearDecoder):
    def __init__(self):
        super().__init__(256, 64)


class MyEncoder(nn.Linear):
    def __init__(self):
        super().__init__(256, 64)


def test_the_examples_of_python(tmp_path, monkeypatch):
    text = (ROOT / "docs/python.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {"x": np.random.default_rng(0).normal(size=(60, 256)).astype(np.float32)}
    scope |= {kind.__name__: kind for kind in (GenerativeModel, PoissonPrior, GaussianLikelihood, Amortized, MyDecoder)}
    scope |= {"MyEncoder": MyEncoder, "LCAUnrolled": LCAUnrolled, "itervae": itervae}
    exec(first.replace("updates=2000", "updates=3, threads=1").replace("latents=256", "latents=16"), scope)
    assert scope["result"].posterior.mean.shape == (60, 16)
    assert '"runs/own")' in second
    exec(second.replace('"runs/own")', '"runs/own", updates=3, threads=1)', 1), scope)
    assert scope["run"].model is scope["model"]


def test_the_example_of_whole_pictures():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/convolution.md").read_text(), re.DOTALL)
    scope = {}
    exec(example, scope)
    larger, mean = scope["larger"], scope["found"].posterior.mean
    assert larger.maps(mean).shape == (2, 16, 14, 18)
    assert larger.signal(larger.decode(mean)).shape == scope["x"].shape
    assert (scope["found"].stats["certificate"] <= 1e-6).all()
