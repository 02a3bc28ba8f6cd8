"""Computing on a device that runs on its own, a GPU: where looking at a number waits, and how such
looks are put off.

The host hands work to a GPU and goes on. To look at a number there is to wait for everything that
was asked for before it. So what is checked of values, a rate that no counts can be drawn of, say,
is put off there and looked at together, once: at the end of `infer`, or every so many updates.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec

import torch
from torch import Tensor

from itervae.errors import InputError


def on_cpu(value: Tensor) -> bool:
    """Whether to look at the numbers of a tensor waits for nothing."""
    return value.device.type == "cpu"


def takes_triton(value: Tensor) -> bool:
    """Whether kernels of Triton run where a tensor is."""
    return value.is_cuda and find_spec("triton") is not None


class Checks:
    """Checks that are put off, each whether a value is fine () and the error where it is not."""

    def __init__(self) -> None:
        self._open: list[tuple[Tensor, Callable[[], InputError]]] = []

    def add(self, fine: Tensor, error: Callable[[], InputError]) -> None:
        """Put a check off."""
        self._open.append((fine, error))

    def read(self) -> None:
        """Look at all of them, by one wait for each device.

        Raises:
            InputError: that of the first check that fails.
        """
        checks, self._open = self._open, []
        for device in dict.fromkeys(fine.device for fine, _ in checks):
            here = [(fine, error) for fine, error in checks if fine.device == device]
            if not torch.stack([fine for fine, _ in here]).all():
                raise next(error() for fine, error in here if not fine)


_checks: ContextVar[Checks | None] = ContextVar("checks", default=None)


@contextmanager
def put_off() -> Iterator[Checks]:
    """Put off the checks of values on a GPU until this ends or their `read`; within another
    `put_off`, until that does."""
    outer = _checks.get()
    if outer is not None:
        yield outer
        return
    checks = Checks()
    token = _checks.set(checks)
    try:
        yield checks
        checks.read()
    finally:
        _checks.reset(token)


def check_value(fine: Tensor, error: Callable[[], InputError]) -> None:
    """Raise the error unless a value is fine (), at once on a CPU, on a GPU when put off checks are
    read."""
    checks = _checks.get()
    if checks is not None and not on_cpu(fine):
        checks.add(fine, error)
    elif not fine:
        raise error()
