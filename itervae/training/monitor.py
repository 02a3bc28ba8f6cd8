"""What a run tells while it goes on: a live progress bar, `metrics.jsonl`, TensorBoard."""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from itervae.files import strict

PRINT_EVERY = 15.0
"""Seconds between lines where the output is not a terminal."""


class Monitor:
    """Shows and keeps the metrics of a run.

    Args:
        run_dir: where `metrics.jsonl` and the events go.
        keep: lines of an earlier part of the run with a larger `update` are dropped (they will be made again).
        terms: what the objective, its second part and the activity are called.
    """

    def __init__(self, run_dir: Path, keep: int, terms: tuple[str, str, str] = ("free energy", "KL", "spikes")) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._terms = terms
        path = run_dir / "metrics.jsonl"
        earlier = []
        if path.is_file():
            earlier = [line for line in path.read_text().splitlines() if _update_of(line) <= keep]
        path.write_text("".join(line + "\n" for line in earlier))
        self.records: list[dict[str, Any]] = [json.loads(line) for line in earlier]
        self._file = path.open("a")
        self._events = SummaryWriter(str(run_dir), purge_step=keep + 1 if keep else None)
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("training", total=1.0, text="")
        self._printed = time.monotonic()

    def __enter__(self) -> "Monitor":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        self._file.close()
        self._events.close()

    def record(self, split: str, update: int, values: dict[str, float]) -> None:
        """Keep one line of numbers."""
        line = {"split": split, "update": update, **values}
        self.records.append(line)
        self._file.write(json.dumps(strict(line)) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, update)

    def picture(self, name: str, image: np.ndarray, update: int) -> None:
        """Keep a grey image (rows, columns) in [0, 1] among the events."""
        self._events.add_image(name, image, update, dataformats="HW")

    def histogram(self, name: str, values: np.ndarray, update: int) -> None:
        """Keep a histogram among the events."""
        self._events.add_histogram(name, values, update)

    def show(self, progress: float, left: float, values: dict[str, float]) -> None:
        """Refresh the bar: free energy, its parts, spikes, inference residual, speed, time left (seconds)."""
        total, cost, activity = self._terms
        text = (
            f"{total} {values['free_energy']:.1f} = rec {values['reconstruction']:.1f} + {cost} {values['kl']:.1f}"
            f" · {activity} {values['spikes']:.1f} · residual {values['residual']:.1g}"
            f" · {values['data_per_s']:.0f}/s · {_clock(left)} left"
        )
        self._progress.update(self._task, completed=progress, text=text)
        if not self._console.is_terminal and time.monotonic() - self._printed > PRINT_EVERY:
            self._printed = time.monotonic()
            self.say(f"{100 * progress:3.0f}%  {text}")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)


class Silent(Monitor):
    """Keeps nothing and shows nothing: the monitor of the processes of a run that do not lead it."""

    def __init__(self) -> None:
        self.records = []

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


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if math.isfinite(seconds) else "?"


def _update_of(line: str) -> float:
    try:
        return json.loads(line)["update"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # the last line of a killed run may be half written
