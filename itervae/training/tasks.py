"""Tasks: what a run is trained on, data without order or windows of sequences with a state that
goes on.

stills      F of each datum under the static prior
sequences   the mean over the frames of a window of F, each with the KL to that frame's own prior. A
            window goes on where the one before it ended, with its state detached; the first frame
            of a sequence has the static prior, which is learned as that. Every window of a sequence
            is trained, each by an update.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from itervae.data import Prefetcher, Source, TubeSource, typical
from itervae.distributions import Family
from itervae.inference import Engine, Gradient, infer
from itervae.model import FreeEnergy, GenerativeModel
from itervae.sequence import Carryover, FilterState, filter_step
from itervae.training.distributed import Processes
from itervae.training.objective import objective
from itervae.training.settings import RunSettings

VALIDATION_DATA = 2000
"""Largest number of held-out data, or frames, of a validation."""
EVALUATION_BATCH = 1000
"""Held-out data, or frames, that are inferred at once."""


@dataclass(frozen=True)
class Batch:
    """The data of an update: x (B, D), or a window of frames (B, T, D) and where a sequence
    `begins` with it (B,)."""

    x: Tensor
    begins: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What an update found; of sequences, all but `loss` and `free_energy` are of the last frame.

    Attributes:
        loss: the number to minimize, nats per datum, with its gradient.
        free_energy: F of the data, in all frames.
        x: the data (B, D).
        posterior: of the data.
        prior: of the data; None for the static one.
        stats: statistics of inference, by name.
        codes: the data and the posterior of each frame, or of the data.
    """

    loss: Tensor
    free_energy: FreeEnergy
    x: Tensor
    posterior: Any
    prior: Family | None
    stats: dict[str, Tensor]
    codes: list[tuple[Tensor, Any]]


@dataclass(frozen=True)
class Evaluated:
    """Held-out data with their posterior and prior."""

    x: Tensor
    posterior: Any
    prior: Family | None


class Task(ABC):
    """A task: the batches of a run, and inference and loss on them.

    Attributes:
        frames: number of parts of `evaluate` in a row that are of the same sequences.
    """

    frames = 1

    def __init__(
        self,
        settings: RunSettings,
        model: GenerativeModel,
        engine: Engine,
        source: Source,
        gradient: Gradient,
        processes: Processes,
    ) -> None:
        self.options, self.source, self.processes = settings.training, source, processes
        self.rows = processes.rows(settings.training.batch_size)
        self.model, self.engine, self.gradient = model, engine, gradient
        self.record = () if (settings.training.loss or engine.recipe.loss) == "final" else ("u",)
        self._ahead = Prefetcher(self._cut) if source.ahead else None

    @property
    @abstractmethod
    def stills(self) -> Tensor:
        """Held-out data (N, D) to look at, without order."""

    def batch(self, update: int) -> Batch:
        """This process's rows of the data of an update. Those of the next are cut meanwhile, where
        that pays."""
        return self._cut(update) if self._ahead is None else self._ahead.get(update)

    def close(self) -> None:
        """End what runs beside the training."""
        if self._ahead is not None:
            self._ahead.close()

    @abstractmethod
    def _cut(self, update: int) -> Batch:
        """Cut the rows of an update: a pure function of its number."""

    @abstractmethod
    def step(self, batch: Batch, temperature: float, generator: torch.Generator) -> Step:
        """Infer a batch, and its loss."""

    @abstractmethod
    def evaluate(self, generator: torch.Generator) -> Iterator[Evaluated]:
        """This process's part of the held-out data, inferred in parts; of sequences, frame by
        frame."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """What the next update needs of the last one, for the checkpoint: of all rows, whichever
        process has them."""

    @abstractmethod
    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""


class StillTask(Task):
    """Data without order."""

    @property
    def stills(self) -> Tensor:
        return self.source.validation[:VALIDATION_DATA]

    def _cut(self, update: int) -> Batch:
        return Batch(self.source.batch(update, self.options.batch_size, self.rows))

    def step(self, batch: Batch, temperature: float, generator: torch.Generator) -> Step:
        found = infer(self.model, self.engine, batch.x, gradient=self.gradient, record=self.record, generator=generator)
        loss, energy = objective(self.model, self.engine, batch.x, found, self.options, temperature, generator)
        return Step(loss, energy, batch.x, found.posterior, None, found.stats, [(batch.x, found.posterior)])

    def evaluate(self, generator: torch.Generator) -> Iterator[Evaluated]:
        for x in self.processes.part(self.stills).split(EVALUATION_BATCH):
            yield Evaluated(x, infer(self.model, self.engine, x, generator=generator).posterior, None)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        pass  # nothing goes on from one batch to the next


class SequenceTask(Task):
    """Windows of sequences, with a carryover from frame to frame."""

    source: TubeSource

    def __init__(
        self,
        settings: RunSettings,
        model: GenerativeModel,
        engine: Engine,
        source: TubeSource,
        gradient: Gradient,
        processes: Processes,
        carryover: Carryover,
    ) -> None:
        super().__init__(settings, model, engine, source, gradient, processes)
        source.check_windows(settings.sequence.window, settings.sequence.stream)
        self.carryover, self.settings, self.frames = carryover, settings.sequence, source.frames
        self.state: FilterState | None = None

    @property
    def stills(self) -> Tensor:
        return self.source.validation[:VALIDATION_DATA, 0]

    @property
    def tubes(self) -> Tensor:
        """Held-out sequences (N, T, D)."""
        return self.source.validation[: max(1, VALIDATION_DATA // self.frames)]

    def _cut(self, update: int) -> Batch:
        size, settings = self.options.batch_size, self.settings
        return Batch(*self.source.windows(update, size, settings.window, settings.stream, self.rows))

    def step(self, batch: Batch, temperature: float, generator: torch.Generator) -> Step:
        assert batch.begins is not None
        before = None if self.state is None else self.state.forget(batch.begins)
        losses, energies, codes, last, state = [], [], [], None, None
        for x, found, prior, now in self._filter(batch.x.unbind(1), before, generator, self.gradient):
            loss, energy = objective(self.model, self.engine, x, found, self.options, temperature, generator, prior)
            losses.append(loss)
            energies.append(energy)
            codes.append((x, found.posterior))
            last, state = (x, found.posterior, prior, found.stats), now
        assert last is not None
        assert state is not None
        self.state = state.detach()
        parts = (torch.cat([getattr(energy, part.name) for energy in energies]) for part in fields(FreeEnergy))
        return Step(torch.stack(losses).mean(), FreeEnergy(*parts), *last, codes)

    def evaluate(self, generator: torch.Generator) -> Iterator[Evaluated]:
        for tubes in self.processes.part(self.tubes).split(max(1, EVALUATION_BATCH // self.frames)):
            for x, found, prior, _ in self._filter(tubes.unbind(1), None, generator):
                yield Evaluated(x, found.posterior, prior)

    @torch.no_grad()
    def shown(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A typical held-out sequence: frames (T, D), spikes (T, K) and reconstructions (T, D)."""
        x = self.tubes[typical(self.tubes)][None]
        u = torch.cat([found.posterior.u for _, found, _, _ in self._filter(x.unbind(1), None, generator)])
        posterior = self.model.posterior(u)
        return x[0], posterior.sample((), generator), self.model.decode(posterior.mean)

    def _filter(
        self,
        frames: Iterable[Tensor],
        state: FilterState | None,
        generator: torch.Generator,
        gradient: Gradient | None = None,
    ) -> Iterator[tuple[Tensor, Any, Family, FilterState]]:
        """Frame by frame: x, inference, prior, state after it; in training with a `gradient`."""
        options: dict[str, Any] = {"start": self.settings.start, "generator": generator}
        if gradient is not None:
            options |= {"gradient": gradient, "record": self.record}
        for x in frames:
            found, prior, state = filter_step(self.model, self.engine, x, self.carryover, state, **options)
            yield x, found, prior, state

    def state_dict(self) -> dict[str, Tensor]:
        values = {} if self.state is None else self.state.to_dict()
        return {name: self.processes.gather(value) for name, value in values.items()}

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        values = {name: value[self.rows].to(self.model.beta.device) for name, value in values.items()}
        self.state = FilterState.from_dict(values) if values else None
