"""Want of memory, said in one sentence in place of a traceback."""

import contextlib
from collections.abc import Iterator

import torch

from itervae.errors import InputError
from itervae.training.settings import RunSettings

_SIGNS = ("can't allocate memory", "size calculation overflowed", "unpacking long", "out of memory")
"""Words of torch where memory is short, for which it has no exception of its own on a CPU."""


@contextlib.contextmanager
def within_memory(settings: RunSettings) -> Iterator[None]:
    """Turn want of memory into an `InputError` that names what can be made smaller."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError, TypeError) as error:
        text = " ".join(str(error).split()).partition(" Exception raised")[0]
        if isinstance(error, RuntimeError | TypeError) and not any(sign in text for sign in _SIGNS):
            raise
        raise InputError(
            f"there is not enough memory for {settings.model.latents} latents and batches of "
            f"{settings.training.batch_size} ({text[:160]}); give smaller `latents`, `batch_size` or `patch_size`"
        ) from error
