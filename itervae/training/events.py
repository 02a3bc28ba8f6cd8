"""TensorBoard events of a run, written as they are made.

torch's SummaryWriter hands them to a thread: what goes wrong there, a full disk say, comes up later
or never, and its queue can block for ever. An event is a few hundred bytes; this writes it and
returns.
"""

import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

BINS = 50
"""Bars of a histogram."""


class Events:
    """An events file of its own in `run_dir`. What earlier files hold from update `purge` on is
    hidden.

    Every method raises OSError where the file cannot be written.
    """

    def __init__(self, run_dir: Path, purge: int) -> None:
        from tensorboard.compat.proto import event_pb2  # takes a second to import
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        proto: Any = event_pb2  # its classes are made at run time
        self._event, self._summary = proto.Event, summary
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file: IO[bytes] = (run_dir / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        start = proto.SessionLog(status=proto.SessionLog.START)
        self._write(session_log=start, step=purge)

    def scalars(self, values: Mapping[str, float | None], update: int) -> None:
        """Keep numbers by their names; None, as in `metrics.jsonl`, is one that is not finite."""
        for name, value in values.items():
            self._write(summary=self._summary.scalar(name, math.nan if value is None else value), step=update)

    def picture(self, name: str, image: np.ndarray, update: int) -> None:
        """Keep an image in [0, 1]: grey (rows, columns), or in colour (rows, columns, 3)."""
        axes = "HWC" if image.ndim == 3 else "HW"
        self._write(summary=self._summary.image(name, image, dataformats=axes), step=update)

    def histogram(self, name: str, values: np.ndarray, update: int) -> None:
        """Keep a histogram of the values that are finite."""
        values = values[np.isfinite(values)]
        if len(values):
            self._write(summary=self._summary.histogram(name, values, BINS), step=update)

    def close(self) -> None:
        self._file.close()

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
        self._file.flush()
