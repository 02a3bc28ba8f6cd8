"""Pictures on disk: complete or untouched; and what importing and drawing leave behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import itervae.plotting
from itervae.errors import InputError
from itervae.plotting import samples_figure, save


def figure(seed=0):
    return samples_figure(np.random.default_rng(seed).normal(size=(4, 9)), (3, 3), "")


def test_saving_replaces_the_picture_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "picture.png"
    save(figure(0), path)
    first = path.read_bytes()
    save(figure(1), str(path))
    assert path.read_bytes() != first
    assert os.listdir(tmp_path) == ["picture.png"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert image.size == tuple(int(side) for side in figure(1).bbox.size)


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
def test_a_failed_write_keeps_the_earlier_picture(tmp_path, monkeypatch, broken):
    path = tmp_path / "picture.png"
    save(figure(0), path)
    before = path.read_bytes()

    def fail(target, *args):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(InputError, match=r"picture\.png.*no space left"):
            save(figure(1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["picture.png"]


def test_a_failed_drawing_keeps_the_earlier_picture(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"before")
    broken = figure()

    def fail(*args, **kwargs):
        raise RuntimeError("cannot draw")

    monkeypatch.setattr(broken, "savefig", fail)
    with pytest.raises(RuntimeError, match="cannot draw"):
        save(broken, path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["picture.png"]


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "file/picture.png"])
def test_a_name_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"expected|name another place"):
        save(figure(), tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


PROGRAM = """
import os, sys, types
import numpy as np
package = types.ModuleType("itervae")  # without what the package itself imports
package.__path__ = [sys.argv[2]]
sys.modules["itervae"] = package
from itervae.plotting import *
assert "matplotlib" not in sys.modules, "imported before it is needed"
import matplotlib
before = dict(matplotlib.rcParams.copy())
x = np.random.default_rng(0).normal(size=(3, 6))
figures = [f(shape) for shape in ((2, 3), (6,)) for f in (
    lambda shape: dictionary_figure(x.T, shape),
    lambda shape: reconstructions_figure(x, x, shape),
    lambda shape: samples_figure(x, shape, ""),
)] + [training_figure([{"update": 1, "kl": 1.0, "residual": 1.0, "lr": 1.0}])]
for index, figure in enumerate(figures):
    save(figure, os.path.join(sys.argv[1], f"{index}.png"))
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
assert dict(matplotlib.rcParams.copy()) == before, "defaults were changed"
assert "torch" not in sys.modules
others = [n for n in sys.modules if n.startswith("itervae.") and not n.startswith("itervae.plotting")]
assert sorted(others) == ["itervae.errors", "itervae.files", "itervae.lazy", "itervae.paths"], others
print(len(figures))
"""


def test_no_figure_needs_pyplot_the_rest_of_the_package_or_changes_defaults(tmp_path):
    # a display that does not exist: nothing may try to open a window
    environment = {**os.environ, "DISPLAY": ":99"}
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(itervae.plotting.__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"
    for name in os.listdir(tmp_path):
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("L")).std() > 1
