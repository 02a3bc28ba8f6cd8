"""Training: one loop, from batch to update, that reads top to bottom.

Joint learning of the generative model and the engine of inference by descent on the free energy:

    batch → infer → free energy → backward → update,      every so often: validate, write a checkpoint

A batch is a function of (seed, update), and samples are drawn from one generator whose state is saved, so a run that is
resumed continues bit for bit on a CPU.
"""

import json
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from itervae.data import Source, load_source
from itervae.errors import InputError
from itervae.inference import GRADIENTS, Engine, Gradient, Truncate, certificate, check_fit, infer
from itervae.model import GenerativeModel
from itervae.training.checkpoint import BEST, LAST, build, load_settings, read_checkpoint, write_checkpoint
from itervae.training.monitor import Monitor
from itervae.training.pictures import atoms_image, draw_pictures
from itervae.training.schedules import Schedule
from itervae.training.settings import RunSettings

LOG_EVERY = 20
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Summary:
    """What a finished or interrupted run came to; also `summary.json`."""

    run_dir: Path
    updates: int
    seconds: float
    finished: bool
    validation: dict[str, float]


def choose_device(name: str) -> torch.device:
    """The device of that name; auto is the first GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here ({error}); use auto, cpu, cuda or cuda:N") from error
    return device


def choose_gradient(settings: RunSettings, engine: Engine) -> Gradient:
    """The gradient mode of a run: the one named, else envelope unless the engine has parameters to train."""
    learned = has_parameters(engine)
    name = settings.training.gradient or ("unroll" if learned else "envelope")
    if name == "envelope" and learned:
        raise InputError(
            f"--gradient envelope cuts the posterior off, so {settings.inference} would not train; use unroll"
        )
    if name == "truncate":
        return Truncate(settings.training.truncate_steps)
    return GRADIENTS[name]()


def choose_lr(settings: RunSettings, engine: Engine) -> float:
    """The peak learning rate of a run: the one given, else 0.005 if the engine has parameters to train, else 0.03.

    With an encoder, larger rates leave a tail of data that it gets catastrophically wrong; a solver has no such tail.
    """
    if settings.training.lr is not None:
        return settings.training.lr
    return 0.005 if has_parameters(engine) else 0.03


def has_parameters(engine: Engine) -> bool:
    """Whether training the engine means anything."""
    return any(parameter.requires_grad for parameter in engine.parameters())


def train(settings: RunSettings, run_dir: Path, resume: bool = False) -> Summary:
    """Train, or go on training, in `run_dir`.

    Leaves `config.yaml`, `checkpoint_last.pt`, `checkpoint_best.pt`, `metrics.jsonl`, TensorBoard events, pictures
    and `summary.json`. Ctrl-C (or SIGTERM) stops after the current update and saves.

    Raises:
        InputError: settings that do not fit each other or the data, or a run that diverged.
    """
    options = settings.training
    _check(settings)
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    source = load_source(settings.data, options.seed, device)
    if settings.model.likelihood == "bernoulli" and not _in_unit_interval(source.validation):
        raise InputError(f"--likelihood bernoulli needs data in [0, 1]; {source.name} are not: use gaussian")

    model, engine = build(settings, source.shape)
    check_fit(type(engine), model)
    model, engine = model.to(device), engine.to(device)
    gradient = choose_gradient(settings, engine)
    parameters = [*model.parameters(), *engine.parameters()]
    lr = choose_lr(settings, engine)
    optimizer = torch.optim.Adamax(parameters, lr=lr)
    generator = torch.Generator(device).manual_seed(options.seed)
    schedule = Schedule(lr, settings.model.beta, options.beta_ramp, options.temperature)
    update, seconds_before, best = 0, 0.0, float("inf")

    if resume:
        saved = read_checkpoint(run_dir / LAST)
        model.load_state_dict(saved["model"])
        engine.load_state_dict(saved["engine"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        update, seconds_before, best = saved["update"], saved["seconds"], saved["best"]
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(settings.flat(), sort_keys=False))

    updates, minutes = options.budget()
    started = time.monotonic()
    validation: dict[str, float] = {}
    logged_at, logged_update = started, update

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def progress() -> float:
        by_updates = update / updates if updates else 0.0
        by_clock = seconds() / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_updates, by_clock))

    def save(name: str) -> None:
        write_checkpoint(
            run_dir / name,
            {
                "config": settings.flat(),
                "shape": list(source.shape),
                "model": model.state_dict(),
                "engine": engine.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "update": update,
                "seconds": seconds(),
                "best": best,
            },
        )

    with Monitor(run_dir, keep=update) as monitor, _Interrupt() as interrupt:
        monitor.say(f"run folder: {run_dir}")
        while (now := progress()) < 1 and not interrupt.asked:
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr_at(now)
            model.beta.fill_(schedule.beta_at(now))
            x = source.batch(update, options.batch_size)

            with torch.autocast(device.type, torch.bfloat16, enabled=options.mixed_precision):
                inference = infer(model, engine, x, gradient=gradient, generator=generator)
                free_energy = model.free_energy(
                    x,
                    inference.posterior.at(schedule.temperature_at(now)),
                    estimator=options.estimator,
                    samples=options.samples,
                    generator=generator,
                )
            loss = free_energy.total.mean()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            if not torch.isfinite(loss + norm):
                _diverged(run_dir, update, x, free_energy.total, norm)
            optimizer.step()
            update += 1

            if update % LOG_EVERY == 0:
                clock = time.monotonic()
                values = {
                    "seconds": seconds(),
                    "free_energy": loss.item(),
                    "reconstruction": free_energy.reconstruction.mean().item(),
                    "kl": free_energy.kl.mean().item(),
                    "spikes": inference.posterior.mean.detach().sum(-1).mean().item(),
                    "residual": certificate(model, x, inference.posterior).mean().item(),
                    "grad_norm": norm.item(),
                    "lr": schedule.lr_at(now),
                    "beta": schedule.beta_at(now),
                    "temperature": schedule.temperature_at(now),
                    "data_per_s": (update - logged_update) * options.batch_size / (clock - logged_at),
                }
                for name in ("rejected", "clamped"):
                    if name in inference.stats:
                        values[name] = inference.stats[name].float().mean().item()
                monitor.record("train", update, values)
                logged_at, logged_update = clock, update
                after = progress()
                monitor.show(after, (seconds() / after - seconds()) if after else float("inf"), values)
            if update % options.validate_every == 0:
                validation = validate(model, engine, source.validation, options.seed)
                monitor.record("validation", update, {"seconds": seconds(), **validation})
                _record_codes(monitor, model, engine, source, update)
                if now >= options.beta_ramp and validation["free_energy"] < best:
                    best = validation["free_energy"]
                    save(BEST)
                save(LAST)
                logged_at, logged_update = time.monotonic(), update

        finished = progress() >= 1
        if finished and (update % options.validate_every or not validation):
            validation = validate(model, engine, source.validation, options.seed)
            monitor.record("validation", update, {"seconds": seconds(), **validation})
            if validation["free_energy"] < best:
                best = validation["free_energy"]
                save(BEST)
        save(LAST)
        summary = Summary(run_dir, update, seconds(), finished, validation)
        _write_summary(summary, settings, source, engine)
        if finished:
            draw_pictures(run_dir, model, engine, source.validation, monitor.records, options.seed)
    return summary


@torch.no_grad()
def validate(model: GenerativeModel, engine: Engine, x: Tensor, seed: int) -> dict[str, float]:
    """Means over held-out data (N, D) at τ = 0, with the model's current β: nats, spikes, certificate.

    The free energy is exact where it has a closed form, else that of integer counts, always with the same seed.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    columns: dict[str, list[Tensor]] = {}
    for batch in x.split(EVALUATION_BATCH):
        inference = infer(model, engine, batch, generator=generator)
        energy = model.free_energy(batch, inference.posterior, generator=generator)
        rates = inference.posterior.mean
        found = {
            "free_energy": energy.total,
            "free_energy_beta_1": energy.reconstruction + energy.kl,
            "reconstruction": energy.reconstruction,
            "kl": energy.kl,
            "spikes": rates.sum(-1),
            "share_zero": torch.exp(-rates).mean(-1),
            "certificate": certificate(model, batch, inference.posterior),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(value)
    joined = {name: torch.cat(values).double() for name, values in columns.items()}
    energy = joined["free_energy"]
    return {name: value.mean().item() for name, value in joined.items()} | {
        "free_energy_se": energy.std().item() / len(energy) ** 0.5,
        "free_energy_p99": energy.quantile(0.99).item(),
        "free_energy_max": energy.max().item(),
        "certificate_max": joined["certificate"].max().item(),
        "non_finite": int((~energy.isfinite()).sum()),
    }


def resume_settings(run_dir: Path) -> RunSettings:
    """The settings that a run was started with, from its last checkpoint."""
    return load_settings(read_checkpoint(run_dir / LAST))


def _check(settings: RunSettings) -> None:
    options = settings.training
    positive = {
        "updates": options.updates,
        "minutes": options.minutes,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "samples": options.samples,
        "truncate_steps": options.truncate_steps,
        "clip": options.clip,
        "validate_every": options.validate_every,
        "threads": options.threads,
    }
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; expected a positive number")
    if not 0 <= options.beta_ramp < 1:
        raise InputError(f"beta_ramp is {options.beta_ramp}; expected a share of the run, at least 0 and below 1")
    if not 0 < options.temperature <= 1:
        raise InputError(f"temperature is {options.temperature}; expected a number above 0 and at most 1")


def _in_unit_interval(x: Tensor) -> bool:
    return bool(x.min() >= 0) and bool(x.max() <= 1)


def _record_codes(monitor: Monitor, model: GenerativeModel, engine: Engine, source: Source, update: int) -> None:
    with torch.no_grad():
        rates = infer(model, engine, source.validation[:EVALUATION_BATCH]).posterior.mean
    monitor.histogram("log10_rates", rates.clamp_min(1e-12).log10().cpu().numpy(), update)
    image = atoms_image(model, rates)
    if image is not None:
        monitor.picture("dictionary", image, update)


def _diverged(run_dir: Path, update: int, x: Tensor, total: Tensor, norm: Tensor) -> None:
    """Write what the offending batch was like and stop; the last good checkpoint stays as it is."""
    facts = {
        "update": update,
        "free_energy": {
            "non_finite": int((~total.isfinite()).sum()),
            "finite_max": float(total[total.isfinite()].max()) if total.isfinite().any() else None,
        },
        "gradient_norm": str(norm.item()),
        "batch": {
            "size": len(x),
            "mean": x.mean().item(),
            "std": x.std().item(),
            "min": x.min().item(),
            "max": x.max().item(),
            "non_finite": int((~x.isfinite()).sum()),
        },
    }
    (run_dir / "failure.json").write_text(json.dumps(facts, indent=2) + "\n")
    raise InputError(
        f"the free energy or its gradient is not finite at update {update} (batch values {x.min().item():.3g} to "
        f"{x.max().item():.3g}, see {run_dir / 'failure.json'}); the last good checkpoint is kept: try a smaller --lr"
    )


def _write_summary(summary: Summary, settings: RunSettings, source: Source, engine: Engine) -> None:
    content: dict[str, Any] = {
        "updates": summary.updates,
        "seconds": round(summary.seconds, 1),
        "finished": summary.finished,
        "validation": summary.validation,
        "data": source.describe(),
        "dropped_patches": source.dropped,
        "inference": settings.inference,
        "engine_parameters": sum(p.numel() for p in engine.parameters()),
        "device": str(source.validation.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    (summary.run_dir / "summary.json").write_text(json.dumps(content, indent=2) + "\n")


class _Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the current update; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "_Interrupt":
        # handlers can be set by the main thread only; elsewhere the caller's thread decides when to stop
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._earlier = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
