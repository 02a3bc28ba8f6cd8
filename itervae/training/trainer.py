"""Training: one loop, from batch to update, that reads top to bottom.

Joint learning of the generative model and the engine of inference by descent on the free energy:

    batch → infer → free energy → backward → update,      every so often: validate, write a checkpoint

A batch is a function of (seed, update), and samples are drawn from one generator whose state is saved, as is what a
window of a sequence hands to the next, so a run that is resumed continues bit for bit on a CPU. What a batch is, and
its loss, is for the task to say.

A run can be killed at any instant. A checkpoint is written before a validation, which it then says is still to be done,
and after it: first the best one, then the last. The summary is written when everything else is there.

Under torchrun each process has a part of the rows (`itervae.training.distributed`), and the first one does the writing:

    torchrun --nproc_per_node=4 -m itervae train --data images --data-path photographs/
"""

import signal
import time
from collections.abc import Collection
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itervae.data import load_source
from itervae.errors import InputError
from itervae.inference import Engine, certificate, infer
from itervae.model import GenerativeModel
from itervae.training.checkpoint import (
    BEST,
    LAST,
    build,
    load_settings,
    make_carryover,
    read_checkpoint,
    write_checkpoint,
)
from itervae.training.choices import check_settings, choose_device
from itervae.training.distributed import Processes, joined
from itervae.training.folder import check_data, check_free, check_new, make_ready
from itervae.training.freeze import fitted_with
from itervae.training.interrupt import Interrupt
from itervae.training.lock import locked
from itervae.training.memory import within_memory
from itervae.training.metrics import METRICS, read_metrics, until
from itervae.training.monitor import Monitor, Silent
from itervae.training.pictures import atoms_image, draw_pictures, draw_sequence
from itervae.training.reports import Summary, diverged, has_finished, write_summary
from itervae.training.run import Position, Run, prepare
from itervae.training.settings import RunSettings, TrainingSettings, read_group
from itervae.training.tasks import EVALUATION_BATCH, SequenceTask
from itervae.training.validation import validate

LOG_EVERY = 20


def train(settings: RunSettings, run_dir: Path, resume: bool = False) -> Summary:
    """Train, or go on training, in `run_dir`.

    Leaves `config.yaml`, `checkpoint_last.pt`, `checkpoint_best.pt`, `metrics.jsonl`, TensorBoard events, pictures
    and `summary.json`. Ctrl-C (or SIGTERM) stops after the current update and saves; a second one raises
    KeyboardInterrupt.

    Raises:
        InputError: settings that do not fit each other or the data, a folder that is taken, or a run that diverged.
    """
    settings = settings.located()
    with joined() as processes, within_memory(settings), ExitStack() as held:
        return _train(settings, processes.told(run_dir), resume, processes, held)


def _train(settings: RunSettings, run_dir: Path, resume: bool, processes: Processes, held: ExitStack) -> Summary:
    options = settings.training
    saved = None
    if resume:
        if processes.lead and (run_dir / LAST).is_file():
            held.enter_context(locked(run_dir))
        saved = read_checkpoint(run_dir / LAST)  # which nobody else writes from here on
        check_data(settings, run_dir)
    elif processes.lead:
        check_free(run_dir)
    run = _prepare(settings, processes, saved)
    settings, source, model, engine, task = run.settings, run.source, run.model, run.engine, run.task
    at, notes = Position(), []
    if saved is not None:
        at, differs = run.load_state_dict(saved, run_dir / LAST)
        notes += [differs] if differs else []
    updates, minutes = options.budget()

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def progress() -> float:
        return _progress(at.update, seconds(), updates, minutes)

    seconds_before, started = at.seconds, time.monotonic()
    spent = _progress(at.update, at.seconds, updates, minutes)
    if saved is not None:
        if spent >= 1 and at.validated in (at.update, -1) and has_finished(run_dir):
            raise InputError(
                f"run {run_dir} has ended, after {at.update} updates and {at.seconds / 60:.1f} minutes; give it a "
                "larger budget with --updates or --minutes"
            )
        notes += _moved(run, read_group(TrainingSettings, saved["config"]), at, spent)
    due = bool(at.update) and at.validated != at.update and (at.update % options.validate_every == 0 or spent >= 1)
    records = []
    if processes.lead:
        # nothing is written before everything has been checked
        if resume:
            records = until(read_metrics(run_dir / METRICS), at.update, validated=not due)
        else:
            held.enter_context(locked(run_dir))
            check_new(run_dir)
        make_ready(run_dir, settings)
    started = time.monotonic()
    logged_at, logged_update = started, at.update

    def save(*names: str) -> None:
        at.seconds = seconds()
        content = run.state_dict(at)
        for name in names if processes.lead else ():
            write_checkpoint(run_dir / name, content)

    again = at.update if due else at.update + 1
    monitor = Monitor(run_dir, records, again, model.prior.terms) if processes.lead else Silent()
    with Interrupt(patient=processes.size > 1) as interrupt, monitor, closing(task):
        monitor.say(f"run folder: {run_dir}" + (f" · {processes.size} processes" if processes.size > 1 else ""))
        rows = source.describe().get("train_rows")
        if isinstance(rows, int) and options.batch_size > rows:
            notes.append(
                f"--batch-size {options.batch_size} is more than the {rows} rows to train on: every update sees some "
                "of them more than once"
            )
        for note in notes:
            monitor.say(note)

        def look(reached: float) -> bool:
            """Validate, and keep what is best so far; whether it was done, and not interrupted."""
            nonlocal logged_at, logged_update
            if reached >= 1:
                model.beta.fill_(run.schedule.beta)  # the last update of a ramp may fall short of its end
            # several processes have to stop together, and do so afterwards
            found = validate(task, options.seed, lambda: interrupt.asked and processes.size == 1)
            if not found:
                return False
            monitor.record("validation", at.update, {"seconds": seconds(), **found})
            if processes.lead:
                _record_codes(monitor, model, engine, task.stills, at.update, options.seed)
            at.validated, at.validation = at.update, found
            if reached >= options.beta_ramp and found["free_energy"] < at.best:
                at.best = found["free_energy"]
                save(BEST)
            save(LAST)  # which says that this is done, and knows the best so far
            logged_at, logged_update = time.monotonic(), at.update
            return True

        now, stop = processes.agree(progress(), interrupt.asked)
        if due:  # the run was stopped before it, or in its midst
            stop = not look(now) or stop
        while now < 1 and not stop:
            for group, (_, peak) in zip(run.optimizer.param_groups, run.peaks, strict=True):
                group["lr"] = run.schedule.lr_at(now) * peak / run.schedule.lr
            model.beta.fill_(run.schedule.beta_at(now))
            batch = task.batch(at.update)

            try:
                with torch.autocast(run.device.type, torch.bfloat16, enabled=options.mixed_precision):
                    step = run.step(batch, run.schedule.temperature_at(now), run.generator)
            except InputError as error:
                raise diverged(run_dir, at.update, batch.x, str(error)) from error
            run.optimizer.zero_grad()
            step.loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(run.parameters, options.clip)
            if not torch.isfinite(step.loss + norm):
                raise diverged(run_dir, at.update, batch.x, "the free energy or its gradient is not finite")
            # before the update: afterwards the posterior would be held against another model
            look_now = (at.update + 1) % LOG_EVERY == 0
            residual = certificate(model, step.x, step.posterior, step.prior).mean() if look_now else None
            run.optimizer.step()
            at.update += 1

            if residual is not None:
                clock = time.monotonic()
                values = {
                    "seconds": seconds(),
                    "free_energy": step.free_energy.total.mean().item(),
                    "reconstruction": step.free_energy.reconstruction.mean().item(),
                    "kl": step.free_energy.kl.mean().item(),
                    "spikes": step.posterior.mean.detach().abs().sum(-1).mean().item(),
                    "residual": residual.item(),
                    "grad_norm": norm.item(),
                    "lr": run.schedule.lr_at(now),
                    "data_per_s": (at.update - logged_update) * len(step.free_energy.total) / (clock - logged_at),
                }
                if "variational posterior" in model.capabilities:
                    values |= {"beta": run.schedule.beta_at(now), "temperature": run.schedule.temperature_at(now)}
                for name in ("rejected", "clamped"):
                    if name in step.stats:
                        values[name] = step.stats[name].float().mean().item()
                values = processes.mean(values)
                values["data_per_s"] *= processes.size
                monitor.record("train", at.update, values)
                logged_at, logged_update = clock, at.update
                after = progress()
                monitor.show(after, (seconds() / after - seconds()) if after else float("inf"), values)
            # looked at once, so that the clock cannot run out between the last validation and the end of the loop
            now, stop = processes.agree(progress(), interrupt.asked)
            if now >= 1 or at.update % options.validate_every == 0:
                save(LAST)
                stop = not look(now) or stop

        _, stop = processes.agree(now, interrupt.asked)
        finished = now >= 1 and at.validated == at.update and not stop
        if at.validated != at.update:
            save(LAST)
        pictures: list[str] = []
        if finished and processes.lead:
            pictures += draw_pictures(run_dir, model, engine, task.stills, monitor.records, options.seed)
            if isinstance(task, SequenceTask):
                shown = task.shown(torch.Generator(run.device).manual_seed(options.seed))
                pictures += draw_sequence(run_dir, model, *shown)
        asked = interrupt.number or (signal.SIGINT if stop else 0)  # another process may have been
        summary = Summary(run_dir, at.update, seconds(), finished, at.validation, type(model.prior), asked)
        if processes.lead:
            write_summary(summary, settings, source, engine, processes.size, pictures)
    return summary


def resume_settings(run_dir: Path, own: Collection[type] = ()) -> RunSettings:
    """The settings that a run was started with, from its last checkpoint; `own` as for `load`."""
    return load_settings(read_checkpoint(run_dir / LAST), own)


def _prepare(settings: RunSettings, processes: Processes, saved: dict[str, Any] | None) -> Run:
    """Read the data, and make what works on them; settings that cannot be right are refused before that."""
    options, resume = settings.training, saved is not None
    if options.freeze is None or resume:
        check_settings(settings)
    if options.freeze is None and settings.data.sequential and not resume:  # before video is decoded, which takes long
        make_carryover(settings, build(settings, (settings.data.patch_size,) * 2)[0])
    fitted = fitted_with(options.freeze, settings.data) if saved is None else saved.get("fitted", {})
    device = choose_device(options.device, processes.local_rank if processes.size > 1 else None)
    if device.type == "cuda" and processes.size > 1:
        torch.cuda.set_device(device)  # what NCCL works on
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with processes.lead_first():
        source = load_source(settings.data, options.seed, device, fitted)
    return prepare(settings, source, device, processes, resume)


def _progress(update: int, seconds: float, updates: int | None, minutes: float | None) -> float:
    """The share of the budget that is spent, of whichever ends first."""
    by_updates = update / updates if updates else 0.0
    by_clock = seconds / (60 * minutes) if minutes else 0.0
    return min(1.0, max(by_updates, by_clock))


def _moved(run: Run, before: TrainingSettings, at: Position, spent: float) -> list[str]:
    """What another budget than before does to the schedules of a run that goes on, in words."""
    was = _progress(at.update, at.seconds, *before.budget())
    if abs(was - spent) < 1e-9:
        return []
    return [
        f"the budget has changed: the run was at {was:.0%} of its schedule and goes on at {spent:.0%}, with learning "
        f"rate {run.schedule.lr_at(spent):.2g} after {run.schedule.lr_at(was):.2g}"
    ]


def _record_codes(monitor: Monitor, model: GenerativeModel, engine: Engine, x: Tensor, update: int, seed: int) -> None:
    generator = torch.Generator(x.device).manual_seed(seed)
    with torch.no_grad():
        rates = infer(model, engine, x[:EVALUATION_BATCH], generator=generator).posterior.mean.abs()
    monitor.histogram("log10_mean", rates.clamp_min(1e-12).log10().cpu().numpy(), update)
    image = atoms_image(model, rates)
    if image is not None:
        monitor.picture("dictionary", image, update)
