"""The command as a user types it, in processes of its own where that matters."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from itervae import cli
from itervae.config import parse_train
from itervae.inference import ENGINES

QUICK = ["--updates", "20", "--latents", "12", "--batch-size", "20", "--device", "cpu"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 16)))
    return path


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    """A small trained run on 4×4 data."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    cli.main(["train", "--data", "array", "--data-path", str(rows), "--run-dir", str(folder), *QUICK])
    return folder


def refused(capsys, *args) -> str:
    """The one sentence that the command says before it ends with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("itervae: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_bad_input_is_one_sentence(capsys, tmp_path, rows, run):
    np.save(tmp_path / "nan.npy", np.full((10, 16), np.nan))
    np.save(tmp_path / "cube.npy", np.zeros((3, 4, 5, 6, 2)))
    np.savez(tmp_path / "whole.npz", x=np.zeros((50, 40)))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    (tmp_path / "typo.yaml").write_text("inference: lca-unrolled\nlatnets: 3\n")
    (tmp_path / "steps.yaml").write_text("inference: amortized\nsteps: 3\n")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "text.pt").write_text("no checkpoint\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "bytes.yaml").write_bytes(b"latents: \xff\xfe")
    array = ("train", *QUICK, "--data", "array", "--data-path")
    for args, message in (
        (("train", "--data", "images", "--data-path", tmp_path / "none"), "none does not exist"),
        (("train", "--data", "images", "--data-path", tmp_path / "half.npz"), "half.npz"),
        ((*array, tmp_path / "half.npz"), "half.npz"),
        ((*array, tmp_path / "nan.npy"), "holds nan at row 0"),
        ((*array, tmp_path / "cube.npy"), r"3.*4.*5.*6"),
        (("train", "--inference", "lca-unroled"), "'lca-unroled' is unknown; did you mean lca-unrolled"),
        (("train", "--inference", "amortized", "--steps", "20"), "--steps does not apply to inference amortized"),
        (("train", "--stepz", "3"), "--stepz is not a setting; did you mean --steps"),
        (("train", "--config", tmp_path / "typo.yaml"), "key 'latnets' is not a setting; did you mean latents"),
        (("train", "--config", tmp_path / "steps.yaml"), "key 'steps' does not apply to inference amortized"),
        (("train", "--config", tmp_path / "list.yaml"), "holds a list"),
        (("train", "--config", tmp_path / "none.yaml"), "there is no config file"),
        (("train", "--config", tmp_path / "empty.yaml"), "empty.yaml is empty; expected lines"),
        (("train", "--config", tmp_path / "bytes.yaml"), "bytes.yaml is not valid YAML"),
        (("train", "--seed", "-1"), "--seed is -1; expected a whole number from 0"),
        (("train", "--seed", 2**64), "--seed is 18446744073709551616; expected"),
        (("train", "--latents", 10**8), "not enough memory for 100000000 latents"),
        (("infer", tmp_path / "text.pt", "--input", rows, "--output", tmp_path / "o.npz"), "text.pt is no checkpoint"),
        (
            ("infer", tmp_path / "empty.pt", "--input", rows, "--output", tmp_path / "o.npz"),
            "empty.pt is no checkpoint",
        ),
        (("train", "--inference", "fista-unrolled", "--decoder", "mlp"), "fista-unrolled needs a model with linear"),
        (("train", "--run-dir", run), "there is a run in .*--resume"),
        (("train", "--run-dir", rows), "is a file; name a folder"),
        (("train", "--resume", tmp_path / "none"), "there is no checkpoint"),
        (("train", "--resume", run / "checkpoint_best.pt"), f"is a file; name the folder of the run, {run}"),
        (("train", "--resume", run, "--lr", "1"), "--lr cannot change when a run is resumed"),
        (("infer", run, "--input", tmp_path / "none.npy", "--output", tmp_path / "o.npz"), "none.npy"),
        (("infer", run, "--input", rows, "--output", tmp_path / "o.txt"), "expected a name ending in .npz"),
        (("infer", run, "--input", rows, "--output", tmp_path / "o.npz", "--inference", "x"), "'x' is unknown"),
        (("infer", run, "--input", rows, "--output", tmp_path / "o.npz", "--inference", "amortized"), "to be trained"),
        (("export", run, "--dictionary", tmp_path / "phi.txt"), "expected a name ending in .npz"),
        (("evaluat",), "'evaluat' is not a command"),
    ):
        assert re.search(message, refused(capsys, *args)), (args, message)


def test_truncated_checkpoint(capsys, run, tmp_path):
    half = tmp_path / "half.pt"
    content = (run / "checkpoint_last.pt").read_bytes()
    half.write_bytes(content[: len(content) // 2])
    error = refused(capsys, "export", half, "--dictionary", tmp_path / "phi.npz")
    assert "truncated or corrupt" in error


def test_infer_and_export(capsys, run, rows, tmp_path):
    cli.main(["infer", str(run), "--input", str(rows), "--output", str(tmp_path / "codes.npz")])
    x = np.load(rows)
    codes = np.load(tmp_path / "codes.npz")
    assert {"log_rate", "counts", "reconstruction", "free_energy"} <= set(codes.files)
    assert codes["log_rate"].shape == codes["counts"].shape == (200, 12)
    assert np.issubdtype(codes["counts"].dtype, np.integer)
    cli.main(["export", str(run), "--dictionary", str(tmp_path / "phi.npz")])
    phi = np.load(tmp_path / "phi.npz")
    rates, r = np.exp(codes["log_rate"]), np.exp(phi["log_rate"])
    np.testing.assert_allclose(codes["reconstruction"], rates @ phi["dictionary"].T, rtol=1e-4, atol=1e-5)
    kl = (r - rates + rates * (codes["log_rate"] - phi["log_rate"])).sum(1)
    squares = ((x - rates @ phi["dictionary"].T) ** 2).sum(1) + rates @ (phi["dictionary"] ** 2).sum(0)
    np.testing.assert_allclose(codes["free_energy"], squares + kl, rtol=1e-4)
    # the exported dictionary is a target like the run
    again = tmp_path / "again.npz"
    cli.main(["infer", str(tmp_path / "phi.npz"), "--input", str(rows), "--output", str(again), "--steps", "20"])
    np.testing.assert_allclose(np.load(again)["free_energy"], codes["free_energy"], rtol=1e-5)
    optimal = tmp_path / "optimal.npz"
    cli.main(["infer", str(run), "--input", str(rows), "--output", str(optimal), "--inference", "optimal"])
    assert (np.load(optimal)["free_energy"] <= codes["free_energy"] + 1e-4).all()


def test_help_lists_only_what_applies(capsys):
    def text(*args):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", *args, "--help"])
        assert stopped.value.code == 0
        return capsys.readouterr().out.partition("examples:")[0]

    lca, amortized = text("--inference", "lca-unrolled"), text("--inference", "amortized")
    assert "--steps" in lca
    assert "--encoder" not in lca
    assert "--encoder" in amortized
    assert "--steps " not in amortized


def test_engines_lists_the_registry(capsys):
    cli.main(["engines"])
    out = capsys.readouterr().out
    assert all(name in out for name in ENGINES)


def test_command_line_overrides_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("inference: fista-unrolled\nsteps: 7\nlatents: 64\nwhiten: false\nlr: 0.001\n")
    settings, run_dir, resume = parse_train(["--config", str(path), "--latents=32", "--beta", "2"])
    assert settings.inference == "fista-unrolled"
    assert settings.engine.steps == 7
    assert settings.model.latents == 32
    assert settings.model.beta == 2.0
    assert settings.data.whiten is False
    assert settings.training.lr == 0.001
    assert run_dir is None
    assert resume is None
    # another engine: settings of the first that do not apply to it are left out
    settings, _, _ = parse_train(["--config", str(path), "--inference", "amortized", "--whiten"])
    assert settings.inference == "amortized"
    assert settings.model.latents == 64
    assert settings.data.whiten is True


def test_every_committed_config_parses():
    configs = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    assert configs
    for config in configs:
        extra = ["--data-path", "x.npy"] if "data: images" in config.read_text() else []
        parse_train(["--config", str(config), *extra])


def start(rows, folder, *extra):
    command = [sys.executable, "-m", "itervae", "train", "--data", "array", "--data-path", str(rows)]
    command += ["--run-dir", str(folder), "--latents", "12", "--batch-size", "20", "--device", "cpu", *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process):
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupt_saves_and_says_how_to_resume(rows, tmp_path, number):
    folder = tmp_path / "run"
    process = start(rows, folder, "--updates", "1000000", "--validate-every", "20")
    wait_for(folder / "checkpoint_last.pt", process)
    os.kill(process.pid, number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error  # so that what is to follow a whole run does not
    assert f"itervae train --resume {folder}" in out
    update = json.loads((folder / "summary.json").read_text())["updates"]
    cli.main(["train", "--resume", str(folder), "--updates", str(update + 5)])
    assert json.loads((folder / "summary.json").read_text())["updates"] == update + 5


@pytest.mark.slow
def test_killed_run_resumes_from_its_last_checkpoint(rows, tmp_path):
    folder = tmp_path / "run"
    process = start(rows, folder, "--updates", "1000000", "--validate-every", "20")
    wait_for(folder / "checkpoint_last.pt", process)
    process.kill()
    process.communicate()
    from itervae.training import read_checkpoint

    update = read_checkpoint(folder / "checkpoint_last.pt")["update"]
    assert update % 20 == 0
    cli.main(["train", "--resume", str(folder), "--updates", str(update + 5)])
    assert json.loads((folder / "summary.json").read_text())["updates"] == update + 5


@pytest.mark.usefixtures("pictures")
def test_photographs_end_to_end(tmp_path, capsys):
    """The main job in small: images in, pictures out, TensorBoard image of the atoms, codes of a
    whole image."""
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    extra = ["--validate-every", "10", "--patch-size", "8"]
    cli.main(["train", "--inference", "lca-unrolled", "--steps", "5", "--run-dir", str(folder), *QUICK, *extra])
    assert "free energy" in capsys.readouterr().out
    for name in ("dictionary", "reconstructions", "samples", "curves"):
        with Image.open(folder / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    events = EventAccumulator(str(folder)).Reload()
    assert len(events.Images("dictionary")) == 2
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((40, 50)))
    cli.main(
        [
            "infer",
            str(folder),
            "--input",
            str(tmp_path / "image.npy"),
            "--as",
            "images",
            "--output",
            str(tmp_path / "codes.npz"),
        ]
    )
    codes = np.load(tmp_path / "codes.npz")
    assert codes["log_rate"].shape == (5 * 6, 12)
    assert codes["positions"].shape == (30, 3)


def test_the_python_example_of_the_readme(tmp_path, monkeypatch):
    """As it stands, but for its length."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for long, short in (("minutes=0.5", "updates=20, threads=1"), ("256", "12"), ("[:500]", "[:50]")):
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    assert scope["counts"].shape == (50, 12)
    assert (scope["gap"] > -1e-4).all()
    assert scope["best"].stats["certificate"].max() <= 1e-6
    assert (tmp_path / "dictionary.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("page", "least"), [("README.md", 2), ("docs/commands.md", 10)])
def test_the_commands_of_the_documentation_parse(page, least, tmp_path, monkeypatch):
    """Every `itervae train` line is accepted as typed, short of running it."""
    (tmp_path / "my_module.py").write_text(
        "from torch import nn\nfrom itervae.inference import Engine\n"
        "class MyEngine(Engine): ...\nclass MyDecoder(nn.Module): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = (Path(__file__).parents[2] / page).read_text()
    lines = re.findall(r"^itervae train(.*?)(?:#.*)?$", text, re.MULTILINE)
    assert len(lines) >= least
    for line in lines:
        if "--resume" not in line:
            parse_train(line.split())
