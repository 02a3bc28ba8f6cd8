"""A run, resolved: everything that its settings decide, made once, and what of it a checkpoint
keeps."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itervae.data import Source, TubeSource
from itervae.devices import check_value
from itervae.errors import InputError
from itervae.inference import Engine, compile_steps
from itervae.model import GenerativeModel, OperatorDecoder, PoissonLikelihood
from itervae.sequence import Carryover
from itervae.training.checkpoint import build, check_keys, load_values, make_carryover
from itervae.training.choices import check_objective, check_settings, choose_gradient, choose_lr
from itervae.training.dictionary import CLOSED_FORM, DictionaryStep, choose_steps
from itervae.training.distributed import Processes
from itervae.training.freeze import frozen_model, start_engine
from itervae.training.schedules import Schedule
from itervae.training.settings import RunSettings
from itervae.training.tasks import Batch, SequenceTask, Step, StillTask, Task

RESUMED = {
    "optimizer": dict,
    "generator": Tensor,
    "device": str,
    "content": str,
    "update": int,
    "seconds": float,
    "best": float,
}
"""Values that resuming needs of a checkpoint, beside those of `checkpoint.LOADED`."""


@dataclass
class Position:
    """How far a run has come."""

    update: int = 0
    """Parameter updates."""
    seconds: float = 0.0
    """Seconds of training, over all parts of the run."""
    best: float = float("inf")
    """The least free energy of a validation after the ramp of β."""
    validated: int = -1
    """The update of the last validation that was finished; −1 before the first. A checkpoint is
    written before a validation as well as after it, so that the one at `update` may be still to be
    done."""
    validation: dict[str, float] = field(default_factory=dict)
    """The numbers of that validation, by name."""


@dataclass
class Run:
    """What training works with.

    Attributes:
        peaks: of each group of the optimizer, the parameters and the peak learning rate.
        step: that of the task, with gradients averaged over processes.
        dictionary: the steps of the dictionary in closed form, where it has some.
    """

    settings: RunSettings
    source: Source
    device: torch.device
    processes: Processes
    model: GenerativeModel
    engine: Engine
    carryover: Carryover | None
    task: Task
    optimizer: torch.optim.Optimizer
    peaks: list[tuple[list[nn.Parameter], float]]
    schedule: Schedule
    generator: torch.Generator
    step: Callable[..., Step]
    dictionary: DictionaryStep | None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [parameter for members, _ in self.peaks for parameter in members]

    def follow_schedule(self, progress: float) -> None:
        """Set the learning rates, β, and what the engine has a schedule of, for the update at this
        point of the run."""
        for group, (_, peak) in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.schedule.lr_at(progress) * peak / self.schedule.lr
        self.model.beta.fill_(self.schedule.beta_at(progress))
        self.engine.follow(progress)

    def gradient(self, batch: Batch, progress: float) -> tuple[Step, Tensor]:
        """What inference finds of the batch of an update at this point of the run; the gradient is
        left at the parameters, clipped, and its norm before that is the second answer. Where
        nothing is moved by its gradient none is made, and the norm is 0.

        Raises:
            InputError: the free energy or its gradient is not finite.
        """
        self.follow_schedule(progress)
        closed = [] if self.dictionary is None else self.dictionary.parameters(progress)
        moved = [parameter for parameter in self.parameters if not any(parameter is each for each in closed)]
        infer = self.step if moved else torch.no_grad()(self.task.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.training.mixed_precision):
            step = infer(batch, self.schedule.temperature_at(progress), self.generator)  # and finds F
        self.optimizer.zero_grad()
        if moved:
            step.loss.backward()
        for parameter in closed:
            parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(moved, self.settings.training.clip)
        check_value(torch.isfinite(step.loss + norm), _not_finite)
        return step, norm

    def update(self, step: Step, progress: float) -> None:
        """Update the parameters by their gradient, or in closed form."""
        self.optimizer.step()
        if self.dictionary is not None and self.dictionary.parameters(progress):
            self.dictionary.take(step.codes)

    def state_dict(self, position: Position) -> dict[str, Any]:
        """The content of a checkpoint; every process has to ask for it."""
        return {
            "config": self.settings.flat(),
            "shape": list(self.source.shape),
            "model": self.model.state_dict(),
            "engine": self.engine.state_dict(),
            "carryover": {} if self.carryover is None else self.carryover.state_dict(),
            "task": self.task.state_dict(),
            "dictionary": {} if self.dictionary is None else self.dictionary.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.processes.gather(self.generator.get_state()[None]),  # of each process, one a row
            "device": self.device.type,
            "fitted": dict(self.source.fitted),
            **_contents(self.source),
            **asdict(position),
        }

    def load_state_dict(self, saved: dict[str, Any], path: Path) -> tuple[Position, str]:
        """Go on from the content of the checkpoint at `path`: where that is, and in words why
        samples differ from there on, if they do.

        Raises:
            InputError: other data, or a checkpoint that lacks something or fits no such run.
        """
        check_keys(path, saved, RESUMED)
        for name, content in _contents(self.source).items():
            if saved.get(name, content) != content:  # that of validation data is not in format 1
                raise InputError(
                    f"the data of {path.parent} have changed since its checkpoint ({name} {content}, then "
                    f"{saved[name]}); bring back the data, or start a new run"
                )
        load_values(path, self.model, "model", saved["model"])
        load_values(path, self.engine, "engine", saved["engine"])
        if self.carryover is not None:
            check_keys(path, saved, {"carryover": dict})
            load_values(path, self.carryover, "carryover", saved["carryover"])
        try:
            self.task.load_state_dict(saved.get("task", {}))
            if "dictionary" not in saved:  # of a version without such steps
                self.dictionary = None
            elif self.dictionary is not None:
                self.dictionary.load_state_dict(saved["dictionary"])
            self.optimizer.load_state_dict(saved["optimizer"])
            states = saved["generator"]
            exact = saved["device"] == self.device.type and len(states) == self.processes.size
            if exact:
                self.generator.set_state(states[self.processes.rank].clone())  # a view is read from its start
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"the optimizer or the generator in checkpoint {path} does not fit the settings in it ({error}); "
                "expected one that itervae train wrote: train again, or use another"
            ) from error
        position = Position(
            saved["update"], saved["seconds"], saved["best"], saved.get("validated", -1), saved.get("validation", {})
        )
        if exact:
            return position, ""
        # states do not fit between kinds of device, nor other numbers of processes
        self.generator = self.processes.generator(self.device, self.settings.training.seed + position.update)
        return position, (
            f"resumed on another device ({saved['device']} before) or number of processes ({len(states)} before): "
            "samples will differ from there on"
        )


def prepare(settings: RunSettings, source: Source, device: torch.device, processes: Processes, resume: bool) -> Run:
    """Make everything that a run needs; where it is resumed, its checkpoint has the values.

    Raises:
        InputError: settings that do not fit each other or the data.
    """
    options, frozen = settings.training, None
    if options.freeze is not None and not resume:  # a checkpoint has the model
        settings, frozen = frozen_model(settings, options.freeze, source.shape)
        check_settings(settings)
    model, engine = build(settings, source.shape)
    if model.convolutional:
        settings.data.check_pictures()
    for split, x in (("validation", source.validation), ("training", source.train)):
        if x is not None:
            model.likelihood.check(x, partial(source.place, split), model.missing)
    if settings.given is None:
        _start_at(model, source)
    if options.freeze is not None and frozen is not None:
        model.load_state_dict(frozen.state_dict())
        start_engine(engine, options.freeze, model)
    model, engine = model.to(device), engine.to(device)
    carryover = make_carryover(settings, model) if isinstance(source, TubeSource) else None
    if settings.given is None:
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
    steps, dictionary = choose_steps(settings, engine, model), None
    if steps != "gradient":
        share = CLOSED_FORM if steps == "both" else math.inf
        memory, momentum = options.dictionary_memory or math.inf, options.dictionary_momentum or 0.0
        dictionary = DictionaryStep(model, share, carryover is None, processes, memory, options.restart_atoms, momentum)
    lr = choose_lr(settings, engine, model)
    peaks = [(_trained(model, engine), lr)]
    if carryover is not None:
        peaks.append((_trained(carryover), options.lr or carryover.lr))
    peaks = [(members, peak) for members, peak in peaks if members]
    if not peaks:
        raise InputError(
            f"there is nothing to train: `freeze` keeps the model, and {settings.engine_name} has no parameters; "
            "choose an engine that is learned, or of sequences a carryover that is"
        )
    parameters = [parameter for members, _ in peaks for parameter in members]
    # a carryover has no part in frames that all begin a sequence
    step = processes.wrap(task.step, parameters, unused=carryover is not None)
    return Run(
        settings,
        source,
        device,
        processes,
        model,
        engine,
        carryover,
        task,
        torch.optim.Adamax([{"params": members, "lr": peak} for members, peak in peaks]),
        peaks,
        Schedule(lr, beta, options.used("beta_ramp"), options.used("temperature")),
        processes.generator(device, options.seed),
        step,
        dictionary,
    )


def _start_at(model: GenerativeModel, source: Source) -> None:
    """Let what stands for the mean of the data start there: rates of counts, the bias of a linear
    decoder."""
    x = source.validation if source.train is None else source.train
    if isinstance(model.likelihood, PoissonLikelihood) and source.train is not None:
        model.likelihood.start_at(x)
    if isinstance(model.decoder, OperatorDecoder):
        model.decoder.start_at(x if x.ndim == 2 else x.flatten(0, 1))


def _not_finite() -> InputError:
    return InputError("the free energy or its gradient is not finite")


def _contents(source: Source) -> dict[str, str]:
    """Hashes of the data, by which a run that is resumed knows them."""
    facts = source.describe()
    held = {"validation_content": str(facts["validation_content"])} if "validation_content" in facts else {}
    return {"content": str(facts.get("content", ""))} | held


def _trained(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]
