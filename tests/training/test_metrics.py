"""`metrics.jsonl`, TensorBoard's events, the line of progress: what is written, read again, and
said if it cannot."""

import errno
import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from itervae import InputError
from itervae.data import DataSettings
from itervae.inference import ENGINES
from itervae.model import PoissonPrior, PoissonVAESettings, Prior, SparseCodingSettings, SparsityPrior
from itervae.training import RunSettings, TrainingSettings, train_run
from itervae.training.events import Events
from itervae.training.metrics import Metrics, read_metrics, until
from itervae.training.monitor import Monitor


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 6)))
    return path


def settings(path, model=None, **training):
    training = {"updates": 20, "batch_size": 10, "validate_every": 20, "device": "cpu", **training}
    return RunSettings(
        "lca-unrolled",
        DataSettings(data="array", data_path=path),
        model or PoissonVAESettings(latents=5),
        ENGINES["lca-unrolled"].Settings(steps=2),
        TrainingSettings(**training),
    )


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


LINE = b'{"split": "train", "update": 20}\n'


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"3", b"null", b'"text"', b"\x00\xff\xfe\x80", b'{"split": "train", "update": "\xc3', b"{}", b"", b"nan",
     b'{"split": "train"}', b'{"split": "train", "update": "20"}', b'{"update": 20}', b"[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_record_is_named(rows, tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINE + line + b"\n" + LINE)
    with pytest.raises(
        InputError, match=r"line 2 of .*metrics.jsonl is .*; expected a record.*: delete the line"
    ) as said:
        read_metrics(path)
    assert "\n" not in str(said.value)
    path.write_bytes(LINE + line)  # of a process that was killed
    assert len(read_metrics(path)) == 1


def test_a_damaged_file_ends_a_resume_with_a_sentence_and_is_left_as_it_is(rows, tmp_path):
    train_run(settings(rows), tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(damaged := path.read_bytes() + b"\xff\xfe\n")
    with pytest.raises(InputError, match="line 3 of"):
        train_run(settings(rows, updates=40), tmp_path / "run", resume=True)
    assert path.read_bytes() == damaged
    (tmp_path / "run" / "summary.json").write_bytes(b"\xff{")  # is written again
    path.write_bytes(damaged[:-3])
    assert train_run(settings(rows), tmp_path / "run", resume=True).finished
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["finished"]


def test_what_holds_of_earlier_records():
    records = [{"split": split, "update": update} for update in (10, 20, 30) for split in ("train", "validation")]
    assert until(records, 20, validated=True) == records[:4]
    assert until(records, 20, validated=False) == records[:3]
    assert until(records, 0, validated=False) == []


def test_records_are_kept_as_they_will_be_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, [])
    metrics.add({"split": "train", "update": 1, "x": math.nan, "y": 0.1 + 0.2})
    assert metrics.records == read_metrics(path) == [{"split": "train", "update": 1, "x": None, "y": 0.1 + 0.2}]


def test_events_from_an_update_on_are_hidden_by_those_made_again(tmp_path):
    first = Events(tmp_path, purge=0)
    for update in (20, 40, 60):
        first.scalars({"a": update, "b": None}, update)
    first.close()
    again = Events(tmp_path, purge=40)
    again.scalars({"a": 41.0}, 40)
    again.histogram("h", np.array([0.0, 1.0, np.nan]), 40)
    again.picture("p", np.zeros((4, 5)), 40)
    again.close()
    assert scalars(tmp_path)["a"] == [(20, 20), (40, 41)]
    assert [step for step, _ in scalars(tmp_path)["b"]] == [20]


class Full(io.RawIOBase):
    """A file on a disk that is full after so many bytes."""

    def __init__(self, left):
        self.left = left

    def writable(self):
        return True

    def write(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


@pytest.mark.parametrize("what", ["metrics", "events"])
def test_a_full_disk_is_one_sentence_that_says_how_to_go_on(rows, tmp_path, monkeypatch, what):
    run = tmp_path / "run"
    message = r"could not write metrics or events to .*No space left on device.*free some space, then "
    begin = Monitor.__init__

    def init(self, *given):
        begin(self, *given)
        if what == "metrics":
            self._metrics._file = Full(0)
        else:
            self._events._file = self._events._records._writer = io.BufferedWriter(Full(100))

    monkeypatch.setattr(Monitor, "__init__", init)
    with pytest.raises(InputError, match=message + "begin again"):
        train_run(settings(rows), run)
    with pytest.raises(InputError, match="there is no checkpoint"):
        train_run(settings(rows, updates=40), run, resume=True)
    monkeypatch.undo()
    train_run(settings(rows, updates=20), run)
    monkeypatch.setattr(Monitor, "__init__", init)
    with pytest.raises(InputError, match=message + f"go on with itervae train --resume {run}"):
        train_run(settings(rows, updates=60), run, resume=True)
    monkeypatch.undo()
    train_run(settings(rows, updates=60), run, resume=True)
    updates = [record["update"] for record in read_metrics(run / "metrics.jsonl")]
    assert updates == [20, 20, 40, 40, 60, 60]


def test_a_real_full_disk(rows, tmp_path):
    """On a file system of 300 kB, where it can be mounted; the last checkpoint stays whole."""
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        train_run(settings(rows), disk / "run")
        free = disk / "fill"
        with pytest.raises(OSError, match="No space left"):
            free.write_bytes(bytes(400_000))
        with pytest.raises(InputError, match="No space left on device") as said:
            train_run(settings(rows, updates=40), disk / "run", resume=True)
        assert "\n" not in str(said.value)
        free.unlink()
        assert train_run(settings(rows, updates=40), disk / "run", resume=True).finished
    finally:
        subprocess.run(["umount", disk], check=True)


def shown(tmp_path, terms, values):
    monitor = Monitor(tmp_path, [], 0, terms)
    monitor._printed -= 100
    monitor._progress.live.console = monitor._console = Console(file=(text := io.StringIO()), width=200)
    with monitor:
        monitor.show(0.5, 10.0, {"spikes": 1.0, "residual": 0.1, "data_per_s": 5.0, **values})
    return text.getvalue()


@pytest.mark.parametrize("beta", [1.0, 0.25, 4.0])
def test_the_printed_equation_holds(tmp_path, beta):
    values = {"free_energy": 10 + beta * 4, "reconstruction": 10.0, "kl": 4.0, "beta": beta}
    text = shown(tmp_path, PoissonPrior.terms, values)
    total, rec, weight, kl = re.search(r"free energy (\S+) = rec (\S+) \+ (?:(\S+)·)?KL (\S+)", text).groups()
    assert float(total) == float(rec) + float(weight or 1) * float(kl)
    assert (weight is None) == (beta == 1)


def test_an_energy_that_is_no_log_probability_has_no_unit(rows, tmp_path, capsys):
    assert (Prior.unit, SparsityPrior.unit) == ("nats", "")
    from itervae.cli.train import _tell

    _tell(train_run(settings(rows, SparseCodingSettings(latents=5)), tmp_path / "coding"))
    said = capsys.readouterr().out
    assert "sparsity cost" in said
    assert "nats" not in said
    for beta, name in ((1.0, "free energy "), (0.5, "free energy = reconstruction + 0.5·KL")):
        summary = train_run(settings(rows, PoissonVAESettings(latents=5, beta=beta)), tmp_path / f"beta{beta}")
        found = summary.validation
        assert found["free_energy"] == pytest.approx(found["reconstruction"] + beta * found["kl"], rel=1e-5)
        _tell(summary)
        said = capsys.readouterr().out
        assert name in said
        assert "nats" in said
