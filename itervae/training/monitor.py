"""What a run tells while it goes on: a live progress bar, `metrics.jsonl`, TensorBoard."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column

from itervae.errors import InputError
from itervae.training.events import Events
from itervae.training.files import LAST, METRICS
from itervae.training.metrics import Metrics

PRINT_EVERY = 15.0
"""Seconds between lines where the output is not a terminal."""


class Monitor:
    """Shows and keeps the metrics of a run.

    Args:
        run_dir: where `metrics.jsonl` and the events go.
        records: of an earlier part of the run, as far as they hold.
        again: the first update of which anything will be recorded, maybe once more: what earlier
            events have from there on is hidden.
        terms: what the objective, its second part and the activity are called.

    Raises:
        InputError: the disk is full, here or in a later method.
    """

    def __init__(
        self,
        run_dir: Path,
        records: list[dict[str, Any]],
        again: int = 0,
        terms: tuple[str, str, str] = ("free energy", "KL", "spikes"),
    ) -> None:
        self._run_dir, self._terms = run_dir, terms
        with self._writing():
            self._metrics = Metrics(run_dir / METRICS, records)
            self._events = Events(run_dir, purge=again)
            for record in records:
                if record["update"] >= again:
                    self._scalars(**record)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("training", total=1.0, left="", text="")
        self._printed = time.monotonic()

    @property
    def records(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`."""
        return self._metrics.records

    def __enter__(self) -> "Monitor":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        for file in (self._metrics, self._events):
            with contextlib.suppress(OSError):  # said when it was written to
                file.close()

    def record(self, split: str, update: int, values: dict[str, float]) -> None:
        """Keep one line of numbers."""
        with self._writing():
            self._metrics.add({"split": split, "update": update, **values})
            self._scalars(split, update, **values)

    def picture(self, name: str, image: np.ndarray, update: int) -> None:
        """Keep an image (rows, columns), or (rows, columns, 3), in [0, 1] among the events."""
        with self._writing():
            self._events.picture(name, image, update)

    def histogram(self, name: str, values: np.ndarray, update: int) -> None:
        """Keep a histogram among the events."""
        with self._writing():
            self._events.histogram(name, values, update)

    def show(self, progress: float, left: float, values: dict[str, float]) -> None:
        """Refresh the bar: time left (seconds), which is shown however narrow the terminal is, free
        energy, its parts, spikes, mean certificate of inference, speed."""
        total, cost, activity = self._terms
        beta = values.get("beta", 1.0)
        text = (
            f"{total} {values['free_energy']:.1f} = rec {values['reconstruction']:.1f} + {weighted(cost, beta)} "
            f"{values['kl']:.1f} · {activity} {values['spikes']:.1f} · certificate {values['residual']:.1g}"
            f" · {values['data_per_s']:.0f}/s"
        )
        remaining = f"{_clock(left)} left"
        self._progress.update(self._task, completed=progress, left=remaining, text=text)
        if not self._console.is_terminal and time.monotonic() - self._printed > PRINT_EVERY:
            self._printed = time.monotonic()
            self.say(f"{100 * progress:3.0f}%  {remaining}  {text}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _scalars(self, split: str, update: int, **values: float | None) -> None:
        self._events.scalars({f"{split}/{name}": value for name, value in values.items()}, update)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = (self._run_dir / LAST).is_file()
            then = f"go on with itervae train --resume {self._run_dir}" if kept else "begin again"
            raise InputError(
                f"could not write metrics or events to {self._run_dir} ({error}); free some space, then {then}"
            ) from error


class Silent(Monitor):
    """Keeps nothing and shows nothing: the monitor of the processes of a run that do not lead
    it."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def record(self, split: str, update: int, values: dict[str, float]) -> None:
        pass

    def picture(self, name: str, image: np.ndarray, update: int) -> None:
        pass

    def histogram(self, name: str, values: np.ndarray, update: int) -> None:
        pass

    def show(self, progress: float, left: float, values: dict[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def weighted(cost: str, beta: float) -> str:
    """The second part of the objective with its weight, unless that is 1: "0.5·KL"."""
    return cost if beta == 1 else f"{beta:.3g}·{cost}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if math.isfinite(seconds) else "?"
