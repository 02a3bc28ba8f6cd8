"""One training at a time in a run folder: a lock that ends with the process that holds it, however
it ends.

The lock is the system's (flock) on the file `.lock` of the folder. The file stays; that it is there
says nothing.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from itervae.errors import InputError
from itervae.training.files import LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made where it is not there. Where the system or the
    file system has no such locks, that is said, and nothing is held.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"could not write to run folder {run_dir} ({error}); name another with `run_dir`") from error
    with file:
        if fcntl is None:
            _none("this system has none")
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _taken(run_dir, file) from error
            except OSError as error:  # some network file systems
                _none(str(error))
        file.truncate(0)
        file.write(f"{os.getpid()}\n")  # for the message of another process
        file.flush()
        yield


def check_unlocked(run_dir: Path) -> None:
    """Refuse a run folder in which another process trains.

    Raises:
        InputError: another process holds its lock.
    """
    if (run_dir / LOCK).is_file():
        with locked(run_dir):
            pass


def _taken(run_dir: Path, file: IO[str]) -> InputError:
    file.seek(0)
    number = file.read(20).strip()
    who = f"another process ({number})" if number.isdigit() else "another process"
    return InputError(
        f"{who} trains in run folder {run_dir}, which takes one at a time; wait until it has ended, or name another "
        "folder with `run_dir`"
    )


def _none(why: str) -> None:
    warnings.warn(
        f"run folders cannot be locked here ({why}): see to it that no other process trains in the same one",
        stacklevel=3,
    )
