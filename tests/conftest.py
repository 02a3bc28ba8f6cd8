"""What tests share: real patches, the folder of real data, and runs without pictures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def patches() -> torch.Tensor:
    """200 whitened 16×16 patches of the sample photographs (200, 256)."""
    from itervae.data import DataSettings, load_source  # not at the top: shapes are checked from the first import on

    return load_source(DataSettings(), seed=0).batch(0, 200)


@pytest.fixture(scope="session", autouse=True)
def _runs_without_pictures() -> Iterator[None]:
    """The pictures at the end of a run take longer than a small run itself: a test that is to see
    them asks for `pictures`."""
    from itervae.training import session

    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_pictures", "draw_sequence"):
            patch.setattr(session, name, lambda *_: [])
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process draw their pictures."""
    from itervae.training import session
    from itervae.training.pictures import draw_pictures, draw_sequence

    monkeypatch.setattr(session, "draw_pictures", draw_pictures)
    monkeypatch.setattr(session, "draw_sequence", draw_sequence)


@pytest.fixture(scope="module", autouse=True)
def _shapes_are_checked_where_they_are_annotated(request: pytest.FixtureRequest) -> Iterator[None]:
    """The parts of the package without annotations of shapes are tested without checks of those
    that they call, which tests of their own check, and which take half the time."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", request.path.parent.name in ("cli", "training", "sequence", "evaluation"))
    yield
    config.update("jaxtyping_disable", before)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of shapes, which take half the time of thousands of small steps: for long runs of
    what others check."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by ITERVAE_DATA; the test is skipped where it is not set."""
    folder = os.environ.get("ITERVAE_DATA")
    if not folder:
        pytest.skip("ITERVAE_DATA is not set: real data are needed")
    return Path(folder)
