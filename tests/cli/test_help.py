"""Help, examples and completion of every command."""

import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

from itervae import cli
from itervae.cli.completion import HOW
from itervae.cli.figures import FIGURES
from itervae.config import parse_train
from itervae.config.command import EXAMPLES
from itervae.options import parse
from itervae.training import TrainingSettings

KINDS = {
    name: import_module(f"itervae.cli.{name.replace('-', '_')}").run.func.__self__
    for name in cli.COMMANDS
    if name not in ("train", "figure", "completion")
}


def shown(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", *KINDS, *(f"figure {name}" for name in FIGURES)])
def test_help_fits_80_columns_and_has_no_word_for_what_is_not_given(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *command.split(), "--help-all")
    for unfit in ("{None}", "None,", "(default: None)", "(default: )"):
        assert unfit not in text
    help_, _, examples = text.partition("examples:\n")
    assert max(map(len, help_.splitlines())) <= 80
    assert examples or command.startswith("figure")
    assert all(line.startswith(f"  itervae {command}") for line in examples.splitlines())


@pytest.mark.parametrize("command", KINDS)
def test_examples_are_command_lines(command):
    assert KINDS[command].EXAMPLES
    for example in KINDS[command].EXAMPLES:
        words = shlex.split(example)
        assert words[:2] == ["itervae", command]
        parse(KINDS[command], f"itervae {command}", words[2:])


def test_examples_of_train_are_command_lines(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)  # where configs/ is
    for example in EXAMPLES:
        words = shlex.split(example)
        assert words[:2] == ["itervae", "train"]
        if "--resume" not in words:  # there is no such run
            parse_train(words[2:])


def test_settings_that_few_runs_need_are_shown_on_request(capsys):
    basic, whole = shown(capsys, "train", "--help"), shown(capsys, "train", "--help-all")
    number = int(re.search(r"(\d+) more settings, which few runs need: itervae train --help-all", basic)[1])
    options = [set(re.findall(r"^\W*(--[a-z-]+)", text, re.MULTILINE)) for text in (basic, whole)]
    assert options[0] < options[1]
    assert len(options[1] - options[0]) == number
    assert {f"--{name.replace('_', '-')}" for name in TrainingSettings.ADVANCED} <= options[1] - options[0]
    assert parse_train(["--clip", "3", "--no-download"])[0].training.clip == 3  # taken all the same


@pytest.mark.parametrize("shell", HOW)
def test_completion_knows_every_command_and_option(shell, capsys, tmp_path):
    cli.main(["completion", shell])
    script = capsys.readouterr().out
    options = ["carryover", "clip", "encoder", "figure", "log-rate"]
    for word in [*cli.COMMANDS, *(name if shell == "tcsh" else f"--{name}" for name in options), "gap-steps"]:
        assert word in script
    assert "adaptive" in script
    if shell == "bash":
        (tmp_path / "completion.bash").write_text(script)
        check = (
            f"source {tmp_path}/completion.bash; COMP_WORDS=(itervae ga); COMP_CWORD=1; _shtab_itervae; echo $COMPREPLY"
        )
        found = subprocess.run(["bash", "-c", check], capture_output=True, text=True, check=True)
        assert found.stdout.split() == ["gap"]
    assert HOW[shell].split(" >")[0] == f"itervae completion {shell}"


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -c 'from itervae.cli import main; main([\"--help\"])' | true; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", f"trap '' PIPE; {command}"], capture_output=True, text=True)
    assert "Traceback" not in found.stderr
