"""A cache of compiled code that is damaged, full or nowhere: the same numbers without it, and one
warning."""

import os
import shutil
import subprocess
import sys

import pytest

CODE = """
import sys, torch, warnings
warnings.simplefilter("always")
from itervae.inference import LCAUnrolled, infer
from itervae.model import PoissonVAESettings, build_model
if sys.argv[1:] == ["nowhere"]:
    from numba.core import caching
    caching.CacheImpl._locator_classes = []
if sys.argv[1:] == ["full"]:
    from numba.core import caching
    def full(*_):
        raise OSError(28, "No space left on device")
    caching.IndexDataCacheFile._save_data = full
model = build_model(PoissonVAESettings(latents=4), (9,)).requires_grad_(False)
x = torch.linspace(-1, 1, 27).reshape(3, 9)
for _ in range(2):
    print(infer(model, LCAUnrolled(2), x).state.u.sum().item())
"""


def run(cache, *how):
    done = subprocess.run(
        [sys.executable, "-c", CODE, *how],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "1"},
    )
    return done.stdout, done.stderr.count("is made anew"), done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder with compiled code, and the numbers that it gives."""
    folder = tmp_path_factory.mktemp("cache")
    numbers, said, _ = run(folder)
    assert not said
    assert len(list(folder.rglob("*.nbi"))) > 3
    return folder, numbers


DAMAGE = [("nbi", b""), ("nbc", b"")]
DAMAGE += [(suffix, content) for suffix in ("nbi", "nbc") for content in (b"garbage", b"\x80\x05K\x01.")]


@pytest.mark.slow  # each compiles anew
@pytest.mark.parametrize(("suffix", "content"), DAMAGE)
def test_a_damaged_cache_is_gone_round_once_and_mended(cache, tmp_path, suffix, content):
    folder, numbers = cache
    shutil.copytree(folder, tmp_path / "cache")
    for path in (tmp_path / "cache").rglob(f"*.{suffix}"):
        path.write_bytes(content)
    found, said, error = run(tmp_path / "cache")
    assert found == numbers
    assert said == 1 if content != b"\x80\x05K\x01." or suffix == "nbc" else said <= 1  # an index of another version
    assert "NUMBA_CACHE_DIR" in error or not said
    assert run(tmp_path / "cache")[:2] == (numbers, 0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "nowhere"])
def test_a_cache_that_cannot_be_written_is_done_without(cache, tmp_path, how):
    found, said, error = run(tmp_path, how)
    assert found == cache[1]
    assert said == 1
    assert "No space left on device" in error or how == "nowhere"
