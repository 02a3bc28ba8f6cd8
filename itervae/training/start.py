"""The start of a run, new or resumed: everything is checked, made and read before anything is
written."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from itervae.data import load_source
from itervae.devices import put_off
from itervae.errors import InputError
from itervae.inference import infer
from itervae.training.checkpoint import build, make_carryover, read_checkpoint
from itervae.training.choices import check_settings, choose_device
from itervae.training.distributed import Processes
from itervae.training.files import LAST, METRICS
from itervae.training.folder import check_data, check_free, check_new, make_ready
from itervae.training.freeze import fitted_with
from itervae.training.groups import read_group
from itervae.training.interrupt import Interrupt
from itervae.training.lock import locked
from itervae.training.metrics import read_metrics, until
from itervae.training.monitor import Monitor, Silent
from itervae.training.options import TrainingSettings
from itervae.training.reports import has_finished
from itervae.training.run import Position, Run, prepare
from itervae.training.session import Clock, Session
from itervae.training.settings import RunSettings


@contextmanager
def started(settings: RunSettings, run_dir: Path, resume: bool, processes: Processes) -> Iterator[Session]:
    """A run in `run_dir`, at its beginning or where it goes on; the folder is locked as long as the
    block takes.

    Raises:
        InputError: settings that do not fit each other or the data, a folder that is taken, or a
            run that has ended.
    """
    with ExitStack() as held:
        saved = None
        if resume:
            if processes.lead and (run_dir / LAST).is_file():
                held.enter_context(locked(run_dir))
            saved = read_checkpoint(run_dir / LAST)  # which nobody else writes from here on
            check_data(settings, run_dir)
        elif processes.lead:
            check_free(run_dir)
        run = _prepare(settings, processes, saved)
        at, notes = (Position(), []) if saved is None else _go_on(run, run_dir, saved)
        spent = _spent(run, at)
        every = run.settings.training.validate_every
        due = bool(at.update) and at.validated != at.update and (at.update % every == 0 or spent >= 1)
        records = []
        if processes.lead:
            # nothing is written before everything has been checked
            if resume:
                records = until(read_metrics(run_dir / METRICS), at.update, validated=not due)
            else:
                held.enter_context(locked(run_dir))
                check_new(run_dir)
            make_ready(run_dir, run.settings)
        _compile(run)
        clock = Clock(at.seconds, at.update)
        again = at.update if due else at.update + 1
        monitor = Monitor(run_dir, records, again, run.model.prior.terms) if processes.lead else Silent()
        with Interrupt(patient=processes.size > 1) as interrupt, monitor, closing(run.task), put_off() as checks:
            several = f" · {processes.size} processes" if processes.size > 1 else ""
            for note in (f"run folder: {run_dir}{several}", *_few_rows(run), *notes):
                monitor.say(note)
            session = Session(run, run_dir, at, clock, monitor, interrupt, checks)
            session.agree()
            if due:  # the run was stopped before it, or in its midst
                session.validate()
            yield session


def _prepare(settings: RunSettings, processes: Processes, saved: dict[str, Any] | None) -> Run:
    """Read the data, and make what works on them; settings that cannot be right are refused before
    that."""
    options, resume = settings.training, saved is not None
    if options.freeze is None or resume:
        check_settings(settings)
    to_read = settings.data.sequential and settings.given is None
    if options.freeze is None and to_read and not resume:  # before video is decoded, which takes long
        make_carryover(settings, build(settings, (settings.data.patch_size,) * 2)[0])
    fitted = fitted_with(options.freeze, settings.data) if saved is None else saved.get("fitted", {})
    device = choose_device(options.device, processes.local_rank if processes.size > 1 else None)
    if device.type == "cuda" and processes.size > 1:
        torch.cuda.set_device(device)  # what NCCL works on
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with processes.lead_first():
        given = settings.given
        source = load_source(settings.data, options.seed, device, fitted) if given is None else given.source
    return prepare(settings, source, device, processes, resume)


@torch.no_grad()
def _compile(run: Run) -> None:
    """Infer once, so that what is compiled at first use does not count as training."""
    if run.device.type == "cpu" and not run.settings.training.compile:
        generator = torch.Generator(run.device).manual_seed(0)
        infer(run.model, run.engine, run.task.stills[: run.settings.training.batch_size], generator=generator)


def _go_on(run: Run, run_dir: Path, saved: dict[str, Any]) -> tuple[Position, list[str]]:
    """Give a run the values of its last checkpoint: where that is, and what is to be said about it.

    Raises:
        InputError: the run has ended, or its checkpoint does not fit it.
    """
    at, differs = run.load_state_dict(saved, run_dir / LAST)
    spent = _spent(run, at)
    if spent >= 1 and at.validated in (at.update, -1) and has_finished(run_dir):
        raise InputError(
            f"run {run_dir} has ended, after {at.update} updates and {at.seconds / 60:.1f} minutes; give it a larger "
            "budget with `updates` or `minutes`"
        )
    notes = [differs] if differs else []
    was = read_group(TrainingSettings, saved["config"]).progress(at.update, at.seconds)
    if abs(was - spent) >= 1e-9:
        notes.append(
            f"the budget has changed: the run was at {was:.0%} of its schedule and goes on at {spent:.0%}, with "
            f"learning rate {run.schedule.lr_at(spent):.2g} after {run.schedule.lr_at(was):.2g}"
        )
    return at, notes


def _spent(run: Run, at: Position) -> float:
    return run.settings.training.progress(at.update, at.seconds)


def _few_rows(run: Run) -> list[str]:
    """What is to be said of a batch that is larger than the data."""
    rows, size = run.source.describe().get("train_rows"), run.settings.training.batch_size
    if not isinstance(rows, int) or size <= rows:
        return []
    return [
        f"a batch of {size} is more than the {rows} rows to train on: every update sees some of them more than once"
    ]
