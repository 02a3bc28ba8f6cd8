"""The processes of a data-parallel run, as torchrun starts them: which rows are whose, and what all
have to agree on.

The engine is torch's DistributedDataParallel. Every process has a copy of the model, draws its own
rows of the batch and computes their gradient, and the gradients are averaged. The batch of an
update is the same for any number of processes, so the free energy is too, and where nothing is
sampled the trained parameters are, to rounding. Messages between processes, but for gradients, go
over the CPU, so that no GPU waits for them.
"""

import contextlib
import gc
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from itervae.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; one that is alone says and hears nothing."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Its number on this machine, and that of its GPU."""

    @property
    def lead(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that are this process's own.

        Raises:
            InputError: a batch that cannot be divided evenly, whose mean would not be the mean of
                the parts.
        """
        if batch_size % self.size:
            raise InputError(
                f"`batch_size={batch_size}` cannot be divided evenly among {self.size} processes; give a multiple of "
                f"{self.size} (it is the total of an update)"
            )
        each = batch_size // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def part(self, values: Tensor) -> Tensor:
        """This process's part of what is to be looked at once, along the first dimension; parts may
        differ by one."""
        return values.tensor_split(self.size)[self.rank]

    def generator(self, device: torch.device, seed: int) -> torch.Generator:
        """A source of randomness of this process's own; the first has the one of a process that is
        alone."""
        if not self.lead:
            seed = int(np.random.SeedSequence(seed, spawn_key=(self.rank,)).generate_state(1)[0])
        return torch.Generator(device).manual_seed(seed)

    def wrap(self, forward: Any, parameters: Sequence[nn.Parameter], unused: bool) -> Any:
        """`forward`, a function of the parameters, with gradients averaged over processes in
        backward. `unused` says that some of them may have no part in it at times."""
        if self.size == 1:
            return forward
        return DistributedDataParallel(_Forward(forward, parameters), find_unused_parameters=unused)

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """The largest progress of all, since clocks differ, and whether any process was asked to
        stop."""
        if self.size == 1:
            return progress, stop
        said = torch.tensor([progress, float(stop)], dtype=torch.float64)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return said[0].item(), bool(said[1])

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each number averaged over processes."""
        if self.size == 1:
            return values
        said = torch.tensor(list(values.values()), dtype=torch.float64)
        distributed.all_reduce(said)
        return dict(zip(values, (said / self.size).tolist(), strict=True))

    def total(self, value: Tensor) -> Tensor:
        """The sum of the tensors of all processes."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        """The parts of all processes, one after the other along the first dimension, on the device
        of `value`."""
        if self.size == 1:
            return value
        parts: list[Any] = [None] * self.size
        distributed.all_gather_object(parts, value.detach().cpu())
        return torch.cat(parts).to(value.device)

    def told(self, value: Any) -> Any:
        """What the lead has for `value`."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    @contextlib.contextmanager
    def lead_first(self) -> Iterator[None]:
        """What the lead does alone before the others follow, in silence: a cache that is filled
        once, say."""
        if self.size == 1:
            yield
            return
        if not self.lead:
            distributed.barrier()
        with contextlib.nullcontext() if self.lead else contextlib.redirect_stderr(io.StringIO()):
            yield
        if self.lead:
            distributed.barrier()


class _Forward(nn.Module):
    """A function of parameters as a module: without buffers, which are the same everywhere and need
    no message."""

    def __init__(self, function: Any, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.kept = nn.ParameterList(parameters)
        self._function = function

    def forward(self, *given: Any) -> Any:
        return self._function(*given)


def leads() -> bool:
    """Whether this process is alone or the first of those of torchrun."""
    return os.environ.get("RANK", "0") == "0"


def processes_of_run() -> int:
    """How many processes torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone; a group that is there already is used
    and left alone.

    Raises:
        InputError: torch was built without what processes speak over.
    """
    if processes_of_run() == 1:
        yield Processes()
        return
    if not distributed.is_available() or not distributed.is_gloo_available():
        raise InputError(f"torchrun started several processes, and this torch ({torch.__version__}) has no gloo")
    own = not distributed.is_initialized()
    if own:
        with_gpu = torch.cuda.is_available() and distributed.is_nccl_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if with_gpu else "gloo")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    yield Processes(distributed.get_rank(), distributed.get_world_size(), local_rank)
    if own:  # not after an error, when the others may never come here
        gc.collect()  # DDP holds the group in cycles, and its threads must not outlive the interpreter
        distributed.barrier()
        distributed.destroy_process_group()
