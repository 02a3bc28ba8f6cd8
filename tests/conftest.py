"""What tests share: real patches, and the folder of real data."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def patches() -> torch.Tensor:
    """200 whitened 16×16 patches of the sample photographs (200, 256)."""
    from itervae.data import DataSettings, load_source  # not at the top: shapes are checked from the first import on

    return load_source(DataSettings(), seed=0).batch(0, 200)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by ITERVAE_DATA; the test is skipped where it is not set."""
    folder = os.environ.get("ITERVAE_DATA")
    if not folder:
        pytest.skip("ITERVAE_DATA is not set: real data are needed")
    return Path(folder)
