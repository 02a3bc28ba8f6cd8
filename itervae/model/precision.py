"""Where mixed precision does not belong."""

import functools
from collections.abc import Callable
from typing import Any

import torch


def full_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a method outside mixed precision: sums over thousands of squares do not survive
    bfloat16."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not (torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")):
            return method(*args, **kwargs)
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return run
