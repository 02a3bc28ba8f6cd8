"""Training: one loop, from batch to update, that reads top to bottom.

Joint learning of the generative model and the engine of inference by descent on the free energy:

    batch → infer → free energy → backward → update,      every so often: validate, write a checkpoint

A batch is a function of (seed, update), and samples are drawn from one generator whose state is saved, as is what a
window of a sequence hands to the next, so a run that is resumed continues bit for bit on a CPU. What a batch is, and
its loss, is for the task to say.

Under torchrun each process has a part of the rows (`itervae.training.distributed`), and the first one does the writing:

    torchrun --nproc_per_node=4 -m itervae train --data images --data-path photographs/
"""

import time
from contextlib import closing
from pathlib import Path

import torch
import yaml
from torch import Tensor

from itervae.data import TubeSource, load_source
from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.inference import Engine, certificate, compile_steps, infer
from itervae.model import BernoulliLikelihood, GenerativeModel
from itervae.training.checkpoint import (
    BEST,
    LAST,
    build,
    load_settings,
    make_carryover,
    read_checkpoint,
    write_checkpoint,
)
from itervae.training.choices import check_objective, check_settings, choose_device, choose_gradient, choose_lr
from itervae.training.distributed import Processes, joined
from itervae.training.freeze import frozen_model
from itervae.training.interrupt import Interrupt
from itervae.training.monitor import Monitor, Silent
from itervae.training.pictures import atoms_image, draw_pictures, draw_sequence
from itervae.training.reports import Summary, diverged, has_finished, write_summary
from itervae.training.schedules import Schedule
from itervae.training.settings import RunSettings
from itervae.training.tasks import EVALUATION_BATCH, SequenceTask, StillTask, Task
from itervae.training.validation import validate

LOG_EVERY = 20


def train(settings: RunSettings, run_dir: Path, resume: bool = False) -> Summary:
    """Train, or go on training, in `run_dir`.

    Leaves `config.yaml`, `checkpoint_last.pt`, `checkpoint_best.pt`, `metrics.jsonl`, TensorBoard events, pictures
    and `summary.json`. Ctrl-C (or SIGTERM) stops after the current update and saves.

    Raises:
        InputError: settings that do not fit each other or the data, or a run that diverged.
    """
    with joined() as processes:
        return _train(settings, processes.told(run_dir), resume, processes)


def _train(settings: RunSettings, run_dir: Path, resume: bool, processes: Processes) -> Summary:
    options = settings.training
    if options.freeze is None or resume:
        check_settings(settings)
    if options.freeze is None and settings.data.sequential and not resume:  # before video is decoded, which takes long
        make_carryover(settings, build(settings, (settings.data.patch_size,) * 2)[0])
    device = choose_device(options.device, processes.local_rank if processes.size > 1 else None)
    if device.type == "cuda" and processes.size > 1:
        torch.cuda.set_device(device)  # what NCCL works on
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with processes.lead_first():
        source = load_source(settings.data, options.seed, device)
    content = str(source.describe().get("content", ""))

    frozen = None
    if options.freeze is not None and not resume:  # a checkpoint has the model
        settings, frozen = frozen_model(settings, options.freeze, source.shape)
        check_settings(settings)
    model, engine = build(settings, source.shape)
    bernoulli = isinstance(model.likelihood, BernoulliLikelihood)
    if bernoulli and not all(map(_in_unit_interval, (source.validation, source.train))):
        raise InputError(f"--likelihood bernoulli needs data in [0, 1]; {source.name} are not: use gaussian")
    if frozen is not None:
        model.load_state_dict(frozen.state_dict())
    model, engine = model.to(device), engine.to(device)
    carryover = make_carryover(settings, model) if isinstance(source, TubeSource) else None
    model.requires_grad_(options.freeze is None)
    beta = model.beta.item()
    if options.compile:
        compile_steps(engine)
    gradient = choose_gradient(settings, engine, model)
    check_objective(settings, engine, model, gradient)
    if carryover is not None and isinstance(source, TubeSource):
        task: Task = SequenceTask(settings, model, engine, source, gradient, processes, carryover)
    else:
        task = StillTask(settings, model, engine, source, gradient, processes)
    lr = choose_lr(settings, engine, model)
    groups = [(_trained(model, engine), lr)]
    if carryover is not None:
        groups.append((_trained(carryover), options.lr or carryover.lr))
    groups = [(members, peak) for members, peak in groups if members]
    if not groups:
        raise InputError(
            f"there is nothing to train: --freeze keeps the model, and {settings.inference} has no parameters; choose "
            "an engine that is learned, or of sequences a carryover that is"
        )
    parameters = [p for members, _ in groups for p in members]
    optimizer = torch.optim.Adamax([{"params": members, "lr": peak} for members, peak in groups])
    generator = processes.generator(device, options.seed)
    # a carryover has no part in frames that all begin a sequence
    step_of = processes.wrap(task.step, parameters, unused=carryover is not None)
    schedule = Schedule(lr, beta, options.beta_ramp, options.temperature)
    update, seconds_before, best = 0, 0.0, float("inf")

    if resume:
        saved = read_checkpoint(run_dir / LAST)
        if saved["content"] != content:
            raise InputError(
                f"the data of {run_dir} have changed since its checkpoint (content {content}, then "
                f"{saved['content']}); bring back the data, or start a new run"
            )
        model.load_state_dict(saved["model"])
        engine.load_state_dict(saved["engine"])
        if carryover is not None:
            carryover.load_state_dict(saved["carryover"])
        task.load_state_dict(saved.get("task", {}))
        optimizer.load_state_dict(saved["optimizer"])
        update, seconds_before, best = saved["update"], saved["seconds"], saved["best"]
        states = saved["generator"]  # of each process, one a row
        exact = saved["device"] == device.type and len(states) == processes.size
        if exact:
            generator.set_state(states[processes.rank].clone())  # a view is read from its start
        else:  # states do not fit between kinds of device, nor other numbers of processes
            generator = processes.generator(device, options.seed + update)
    updates, minutes = options.budget()
    spent = max(update / updates if updates else 0.0, seconds_before / (60 * minutes) if minutes else 0.0)
    if resume and spent >= 1 and has_finished(run_dir):  # one that was killed in its last validation has not
        raise InputError(
            f"run {run_dir} has ended, after {update} updates and {seconds_before / 60:.1f} minutes; give it a larger "
            "budget with --updates or --minutes"
        )
    # nothing is written before everything has been checked
    if processes.lead:
        write_bytes(run_dir / "config.yaml", yaml.safe_dump(settings.flat(), sort_keys=False).encode())
    started = time.monotonic()
    validation: dict[str, float] = {}
    logged_at, logged_update = started, update

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def progress() -> float:
        by_updates = update / updates if updates else 0.0
        by_clock = seconds() / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_updates, by_clock))

    def save(*names: str) -> None:
        saved = {
            "config": settings.flat(),
            "shape": list(source.shape),
            "model": model.state_dict(),
            "engine": engine.state_dict(),
            "carryover": {} if carryover is None else carryover.state_dict(),
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": processes.gather(generator.get_state()[None]),
            "device": device.type,
            "content": content,
            "update": update,
            "seconds": seconds(),
            "best": best,
        }
        for name in names if processes.lead else ():
            write_checkpoint(run_dir / name, saved)

    monitor = Monitor(run_dir, keep=update, terms=model.prior.terms) if processes.lead else Silent()
    with monitor, Interrupt(patient=processes.size > 1) as interrupt, closing(task):
        monitor.say(f"run folder: {run_dir}" + (f" · {processes.size} processes" if processes.size > 1 else ""))
        if resume and not exact:
            monitor.say(
                f"resumed on another device ({saved['device']} before) or number of processes ({len(states)} before): "
                "samples will differ from there on"
            )

        def look(reached: float) -> dict[str, float]:
            """Validate, and keep what is best so far; empty where it was interrupted."""
            nonlocal best, logged_at, logged_update
            # several processes have to stop together, and do so afterwards
            found = validate(task, options.seed, lambda: interrupt.asked and processes.size == 1)
            if found:
                monitor.record("validation", update, {"seconds": seconds(), **found})
                if processes.lead:
                    _record_codes(monitor, model, engine, task.stills, update, options.seed)
                if reached >= options.beta_ramp and found["free_energy"] < best:
                    best = found["free_energy"]
                    save(BEST, LAST)  # which knows the best so far
                logged_at, logged_update = time.monotonic(), update
            return found

        now, stop = processes.agree(progress(), interrupt.asked)
        while now < 1 and not stop:
            for group, (_, peak) in zip(optimizer.param_groups, groups, strict=True):
                group["lr"] = schedule.lr_at(now) * peak / lr
            model.beta.fill_(schedule.beta_at(now))
            batch = task.batch(update)

            try:
                with torch.autocast(device.type, torch.bfloat16, enabled=options.mixed_precision):
                    step = step_of(batch, schedule.temperature_at(now), generator)
            except InputError as error:
                raise diverged(run_dir, update, batch.x, str(error)) from error
            optimizer.zero_grad()
            step.loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            if not torch.isfinite(step.loss + norm):
                raise diverged(run_dir, update, batch.x, "the free energy or its gradient is not finite")
            # before the update: afterwards the posterior would be held against another model
            look_now = (update + 1) % LOG_EVERY == 0
            residual = certificate(model, step.x, step.posterior, step.prior).mean() if look_now else None
            optimizer.step()
            update += 1

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
                    "lr": schedule.lr_at(now),
                    "data_per_s": (update - logged_update) * len(step.free_energy.total) / (clock - logged_at),
                }
                if "variational posterior" in model.capabilities:
                    values |= {"beta": schedule.beta_at(now), "temperature": schedule.temperature_at(now)}
                for name in ("rejected", "clamped"):
                    if name in step.stats:
                        values[name] = step.stats[name].float().mean().item()
                values = processes.mean(values)
                values["data_per_s"] *= processes.size
                monitor.record("train", update, values)
                logged_at, logged_update = clock, update
                after = progress()
                monitor.show(after, (seconds() / after - seconds()) if after else float("inf"), values)
            # looked at once, so that the clock cannot run out between the last validation and the end of the loop
            reached, stop = processes.agree(progress(), interrupt.asked)
            due = update % options.validate_every == 0
            if reached >= 1:
                model.beta.fill_(beta)  # the last update of a ramp may fall short of its end
                due = True
            if due:
                save(LAST)
                validation = look(reached)
                if not validation:
                    break  # interrupted; the checkpoint has just been written
            now = reached

        finished = now >= 1
        if finished and not validation:  # it was stopped in its last validation
            model.beta.fill_(beta)
            validation = look(now)
            finished = bool(validation)
        if not finished:
            save(LAST)
        summary = Summary(run_dir, update, seconds(), finished, validation)
        if processes.lead:
            write_summary(summary, settings, source, engine, processes.size)
        if finished and processes.lead:
            draw_pictures(run_dir, model, engine, task.stills, monitor.records, options.seed)
            if isinstance(task, SequenceTask):
                draw_sequence(run_dir, model, *task.shown(torch.Generator(device).manual_seed(options.seed)))
    return summary


def resume_settings(run_dir: Path) -> RunSettings:
    """The settings that a run was started with, from its last checkpoint."""
    return load_settings(read_checkpoint(run_dir / LAST))


def _trained(*modules: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _in_unit_interval(x: Tensor | None) -> bool:
    return x is None or (bool(x.min() >= 0) and bool(x.max() <= 1))


def _record_codes(monitor: Monitor, model: GenerativeModel, engine: Engine, x: Tensor, update: int, seed: int) -> None:
    generator = torch.Generator(x.device).manual_seed(seed)
    with torch.no_grad():
        rates = infer(model, engine, x[:EVALUATION_BATCH], generator=generator).posterior.mean.abs()
    monitor.histogram("log10_mean", rates.clamp_min(1e-12).log10().cpu().numpy(), update)
    image = atoms_image(model, rates)
    if image is not None:
        monitor.picture("dictionary", image, update)
