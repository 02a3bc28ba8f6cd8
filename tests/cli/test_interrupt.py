"""Ctrl-C in a process of its own: once, twice, as it begins and after its last line."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from itervae.training import LAST
from itervae.training.interrupt import how_to_go_on

TRAIN = ["--latents", "12", "--batch-size", "20", "--device", "cpu", "--validate-every", "20", "--threads", "1"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 16)))
    return path


def start(*args, code=None):
    command = ["-c", code] if code else ["-m", "itervae"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(process, code):
    out, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    return out, error


def train(rows, folder):
    process = start("train", "--data", "array", "--data-path", rows, "--run-dir", folder, "--updates", 10**7, *TRAIN)
    for _ in range(600):
        if (folder / LAST).exists():
            return process
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError("no checkpoint")


@pytest.mark.parametrize("delay", [0.6, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.3, 1.0, 1.5))])
def test_during_imports_there_is_no_traceback(delay):
    process = start("train", "--updates", 10**7)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    assert "itervae: stopped" in ended(process, 130)[1]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.002, 0.05])
def test_a_second_one_ends_the_process_and_says_how_to_go_on(rows, tmp_path, delay):
    process = train(rows, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, error = ended(process, 130)
    assert f"itervae train --resume {tmp_path / 'run'}" in out + error


BUSY = """
import sys, threading, time
from itervae.training import session
lock = threading.Lock()
lock.acquire()
session.validate = lambda *_: lock.acquire()  # for ever
from itervae import cli
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_second_one_ends_a_process_that_waits_for_ever(rows, tmp_path):
    folder = tmp_path / "run"
    args = ("train", "--data", "array", "--data-path", rows, "--run-dir", folder, "--updates", 10**7, *TRAIN)
    process = start(*args, code=BUSY)
    for _ in range(600):
        if (folder / LAST).exists():
            break
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert f"itervae train --resume {folder}" in ended(process, 130)[1]


LATE = """
import atexit, sys, time
from itervae import cli
from itervae.cli import engines
run = engines.run
engines.run = lambda args: (run(args), atexit.register(lambda: (print("exiting", flush=True), time.sleep(30))))
sys.argv[1:] = ["engines"]
cli.main()
"""


def test_after_the_last_line_there_is_no_traceback():
    process = start(code=LATE)
    lines = iter(process.stdout.readline, "")
    assert any(line == "exiting\n" for line in lines)
    process.send_signal(signal.SIGINT)
    ended(process, 130)


def test_a_command_called_from_python_leaves_signals_as_they_are():
    from itervae import cli

    before = signal.getsignal(signal.SIGINT)
    cli.main(["engines"])
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_said_of_a_run(tmp_path):
    folder = tmp_path / "my run"
    assert "begin again" in how_to_go_on(folder)
    folder.mkdir()
    (folder / LAST).touch()
    assert how_to_go_on(folder).endswith(f"itervae train --resume '{folder}'")  # as a shell wants it
    (folder / "summary.json").write_text('{"finished": true, "pictures": ["curves.png"]}')
    assert "--resume" in how_to_go_on(folder)  # which draws what is missing
    (folder / "curves.png").touch()
    assert "has ended" in how_to_go_on(folder)


def test_the_package_is_imported_when_it_is_used():
    code = "import sys, itervae, itervae.cli; assert 'torch' not in sys.modules; print(itervae.infer, itervae.data)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert "function infer" in done.stdout
    assert not hasattr(__import__("itervae"), "nothing")
