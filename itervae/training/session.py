"""A run under way: how far it has come, its clock, what it tells, and what it saves, when.

A run can be killed at any instant. A checkpoint is written before a validation, which it then says
is still to be done, and after it: first the best one, then the last. The summary is written when
everything else is there.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itervae.devices import Checks
from itervae.errors import InputError
from itervae.inference import Engine, infer
from itervae.model import GenerativeModel
from itervae.training.checkpoint import write_checkpoint
from itervae.training.choices import WITHOUT_TEMPERATURE
from itervae.training.files import BEST, LAST
from itervae.training.interrupt import Interrupt
from itervae.training.monitor import Monitor
from itervae.training.pictures import atoms_image, draw_pictures, draw_sequence
from itervae.training.reports import Summary, diverged, write_summary
from itervae.training.run import Position, Run
from itervae.training.tasks import EVALUATION_BATCH, Batch, SequenceTask, Step
from itervae.training.validation import validate

LOG_EVERY = 20
"""Updates between lines of numbers."""


class Clock:
    """Seconds of training, over all parts of a run, and how fast updates follow each other.

    Args:
        seconds: of the earlier parts.
        update: the update that the run is at.
    """

    def __init__(self, seconds: float, update: int) -> None:
        self._before, self._started = seconds, time.monotonic()
        self.restart(update)

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + time.monotonic() - self._started

    def restart(self, update: int) -> None:
        """Measure the speed from here on."""
        self._looked, self._update = time.monotonic(), update

    def speed(self, update: int) -> float:
        """Updates per second since this, or `restart`, was last called."""
        looked, since = self._looked, self._update
        self.restart(update)
        return (update - since) / (self._looked - looked)


class Session:
    """A run in its folder, from where it begins or goes on to its end.

    Attributes:
        run: what training works with.
        folder: of the run.
        at: how far the run has come.
        now: share of the budget that is spent, in [0, 1], the same for all processes.
        stop: whether the run is to stop before its budget is spent, the same for all processes.
        batch: that of the update under way, or of the last one.
    """

    def __init__(
        self, run: Run, folder: Path, at: Position, clock: Clock, monitor: Monitor, interrupt: Interrupt, checks: Checks
    ) -> None:
        self.run, self.folder, self.at = run, folder, at
        self._options, self._processes = run.settings.training, run.processes
        self._clock, self._monitor, self._interrupt, self._checks = clock, monitor, interrupt, checks
        self.now, self.stop = 0.0, False
        self.batch: Batch | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there is another update."""
        return self.now < 1 and not self.stop

    @property
    def logs(self) -> bool:
        """Whether the update under way is one of those whose numbers are kept."""
        return (self.at.update + 1) % LOG_EVERY == 0

    def agree(self) -> None:
        """Look at the clock, and whether a stop was asked for; all processes get the same
        answer."""
        self.now, self.stop = self._processes.agree(self._progress(), self._interrupt.asked)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block whose errors of values mean that the run has diverged.

        Raises:
            InputError: it has; says what the batch was like.
        """
        try:
            yield
        except InputError as error:
            assert self.batch is not None
            raise diverged(self.folder, self.at.update, self.batch.x, str(error)) from error

    def read_checks(self) -> None:
        """Look at the checks of values that were put off on a GPU.

        Raises:
            InputError: the run has diverged since they were read last.
        """
        with self.watched():
            self._checks.read()

    def log(self, now: float, step: Step, norm: Tensor, residual: Tensor) -> None:
        """Keep and show the numbers of the update that was made.

        Args:
            now: the progress at which it began.
            step: what it found.
            norm: of the gradient.
            residual: certificate of inference before the update, nats, averaged over data.
        """
        self.read_checks()
        run, at = self.run, self.at
        values = {
            "seconds": self._clock.seconds,
            "free_energy": step.free_energy.total.mean().item(),
            "reconstruction": step.free_energy.reconstruction.mean().item(),
            "kl": step.free_energy.kl.mean().item(),
            "spikes": step.posterior.mean.detach().abs().sum(-1).mean().item(),
            "residual": residual.item(),
            "grad_norm": norm.item(),
            "lr": run.schedule.lr_at(now),
            "data_per_s": self._clock.speed(at.update) * len(step.free_energy.total),
        }
        if "variational posterior" in run.model.capabilities:
            values["beta"] = run.schedule.beta_at(now)
            if (self._options.estimator or run.model.estimators[0]) not in WITHOUT_TEMPERATURE:
                values["temperature"] = run.schedule.temperature_at(now)
        for name in ("rejected", "clamped"):
            if name in step.stats:
                values[name] = step.stats[name].float().mean().item()
        values = self._processes.mean(values)
        values["data_per_s"] *= self._processes.size
        self._monitor.record("train", at.update, values)
        progress, seconds = self._progress(), self._clock.seconds
        self._monitor.show(progress, (seconds / progress - seconds) if progress else float("inf"), values)

    def validate(self) -> None:
        """Look at held-out data and keep what is best so far; a stop that is asked for meanwhile
        leaves it undone."""
        run, at = self.run, self.at
        if self.now >= 1:
            run.model.beta.fill_(run.schedule.beta)  # the last update of a ramp may fall short of its end
        # several processes have to stop together, and do so afterwards
        alone = self._processes.size == 1
        found = validate(run.task, self._options.seed, lambda: self._interrupt.asked and alone)
        if not found:
            self.stop = True
            return
        self._monitor.record("validation", at.update, {"seconds": self._clock.seconds, **found})
        if self._processes.lead:
            _record_codes(self._monitor, run.model, run.engine, run.task.stills, at.update, self._options.seed)
        at.validated, at.validation = at.update, found
        if self.now >= run.schedule.beta_ramp and found["free_energy"] < at.best:
            at.best = found["free_energy"]
            self._save(BEST)
        self._save(LAST)  # which says that this is done, and knows the best so far
        self._clock.restart(at.update)

    def save(self) -> None:
        """Write the last checkpoint."""
        self._save(LAST)

    def end(self) -> Summary:
        """Save what is not, draw the pictures of a run whose budget is spent, and sum it up."""
        run, at = self.run, self.at
        _, stop = self._processes.agree(self.now, self._interrupt.asked)
        finished = self.now >= 1 and at.validated == at.update and not stop
        if at.validated != at.update:
            self._save(LAST)
        pictures = self._draw() if finished and self._processes.lead else []
        asked = self._interrupt.number or (signal.SIGINT if stop else 0)  # another process may have been
        seconds = self._clock.seconds
        summary = Summary(self.folder, at.update, seconds, finished, at.validation, type(run.model.prior), asked)
        if self._processes.lead:
            write_summary(summary, run.settings, run.source, run.engine, self._processes.size, pictures)
        return summary

    def _draw(self) -> list[str]:
        run, seed = self.run, self._options.seed
        drawn = draw_pictures(self.folder, run.model, run.engine, run.task.stills, self._monitor.records, seed)
        if isinstance(run.task, SequenceTask):
            shown = run.task.shown(torch.Generator(run.device).manual_seed(seed))
            drawn += draw_sequence(self.folder, run.model, *shown)
        return drawn

    def _save(self, name: str) -> None:
        self.read_checks()
        self.at.seconds = self._clock.seconds
        content: dict[str, Any] = self.run.state_dict(self.at)
        if self._processes.lead:
            write_checkpoint(self.folder / name, content)

    def _progress(self) -> float:
        return self._options.progress(self.at.update, self._clock.seconds)


def _record_codes(monitor: Monitor, model: GenerativeModel, engine: Engine, x: Tensor, update: int, seed: int) -> None:
    generator = torch.Generator(x.device).manual_seed(seed)
    with torch.no_grad():
        rates = infer(model, engine, x[:EVALUATION_BATCH], generator=generator).posterior.mean.abs()
    monitor.histogram("log10_mean", rates.clamp_min(1e-12).log10().cpu().numpy(), update)
    image = atoms_image(model, rates)
    if image is not None:
        monitor.picture("dictionary", image, update)
