"""What commands print and write: on any terminal, whatever paths are called, results first."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import itervae
from itervae import cli
from itervae.cli.work import gap as gap_command
from itervae.model import save_dictionary

QUICK = ("--updates", 2, "--batch-size", 10, "--validate-every", 2, "--device", "cpu", "--latents", 6)


def run(*args):
    cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 16)))
    return path


@pytest.fixture(scope="module")
def bracketed(rows, tmp_path_factory):
    """Two runs that differ in what looks like markup, and one that ends it."""
    folder = tmp_path_factory.mktemp("runs")
    run("train", "--data", "array", "--data-path", rows, "--run-dir", folder / "plain", *QUICK)
    paths = [folder / name for name in ("exp[beta2]", "exp[red]", "a[/b]", r":fire: $\nothing$ [b]")]
    for path in paths:
        shutil.copytree(folder / "plain", path)
    return paths


def measured(command, *args, **environment):
    """A command in a process of its own, its streams as bytes."""
    told = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(
        [sys.executable, "-m", "itervae", command, *map(str, args)], capture_output=True, env=told, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_without_the_characters_gets_escapes(bracketed, tmp_path, encoding):
    done = measured("gap", bracketed[0], "--num", 5, "--json", tmp_path / "j.json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "engine" in done.stdout.decode(encoding)
    assert json.loads((tmp_path / "j.json").read_text(encoding="utf-8"))["num"] == 5


def test_errors_too(tmp_path):
    done = measured("gap", tmp_path / "Größe±.npz", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(b"itervae: there is no dictionary file at ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("given", [[], ["one.npz", "two.npz"]])
def test_a_command_line_is_refused_on_a_terminal_as_in_a_pipe(given, monkeypatch, capsys):
    said = []
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        with pytest.raises(SystemExit, match="2"):
            run("gap", *given)
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert ("no target was named" if not given else "two.npz was given too") in said[1]


def test_the_usage_is_on_a_terminal_as_in_a_pipe(monkeypatch, capsys):
    said = []
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        with pytest.raises(SystemExit):
            run("gap", "--help")
        said.append(capsys.readouterr().out)
    assert "\x1b[" in said[1]
    assert said[1].splitlines()[0] == said[0].splitlines()[0] == "usage: itervae gap TARGET [-h] [OPTIONS]"


def test_results_are_written_before_anything_is_printed(bracketed, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("no terminal")

    monkeypatch.setattr(gap_command, "_print", fails)
    outputs = [tmp_path / name for name in ("j.json", "a.npz", "p.png")]
    options = zip(("--json", "--save", "--figure"), outputs, strict=True)
    with pytest.raises(OSError, match="no terminal"):
        run("gap", bracketed[0], "--num", 5, *(part for pair in options for part in pair))
    assert all(path.is_file() for path in outputs)


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_command_without_a_traceback(bracketed, tmp_path):
    command = f"{sys.executable} -m itervae gap '{bracketed[0]}' --num 5 --json '{tmp_path}/j.json'"
    done = subprocess.run(["bash", "-c", f"{command} | true"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert (tmp_path / "j.json").is_file()


def test_names_are_no_markup(bracketed, rows, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run("evaluate", *bracketed, "--suite", "units,sparsity", "--json", tmp_path / "j.json")
    out = capsys.readouterr().out
    assert all(path.name in out for path in bracketed)
    assert set(json.loads((tmp_path / "j.json").read_text(encoding="utf-8"))["runs"]) == {p.name for p in bracketed}
    for path in bracketed[2:]:
        run("gap", bracketed[0], "--engines", path, "--num", 5, "--figure", tmp_path / "g.png")
        assert str(path) in capsys.readouterr().out
    run("rate-distortion", *bracketed[:2], "--coders", "", "--num", 10, "--figure", tmp_path / "r.png")
    run("infer", bracketed[2], "--input", rows, "--output", tmp_path / "[/x].npz")
    assert "[/x].npz" in capsys.readouterr().out


def test_home_folder_everywhere(bracketed, rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    run("export", bracketed[0], "--dictionary", "~/phi.npz")
    model = itervae.load_dictionary("~/phi.npz")
    save_dictionary(model, "~/again.npz")
    run("gap", "~/phi.npz", "--data", "array", "--data-path", rows, "--num", 5, "--engines", "lca-unrolled:2",
        "--json", "~/j.json", "--save", "~/g.npz", "--figure", "~/g.png")  # fmt: skip
    run("infer", "~/again.npz", "--input", rows, "--output", "~/codes.npz")
    run("evaluate", "~/phi.npz", "--data", "array", "--data-path", rows, "--json", "~/e.json", "--suite", "sparsity")
    run("figure", "gap-distribution", "~/g.npz", "--output", "~/figure.png")
    run("rate-distortion", bracketed[0], "--dictionary", "~/phi.npz", "--coders", "lca-unrolled:2:soft",
        "--thresholds", 0.5, "--num", 10, "--json", "~/r.json")  # fmt: skip
    names = {"phi.npz", "again.npz", "j.json", "g.npz", "g.png", "codes.npz", "e.json", "figure.png", "r.json"}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert str(tmp_path / "codes.npz") in capsys.readouterr().out
    assert torch.equal(itervae.load_dictionary("~/again.npz").dictionary, model.dictionary)
