"""Stopping a run without losing anything, and at once where that is asked for.

The first Ctrl-C (or SIGTERM) stops a run after its current update, with a checkpoint. A second one
ends the process then and there: to raise an exception would be to hope that nothing swallows it,
and that nothing waits for ever on the way out. Whatever is half written then is what a killed run
leaves too.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from itervae.training.distributed import leads, processes_of_run
from itervae.training.files import LAST
from itervae.training.reports import has_finished

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"
"""What shows the cursor of a terminal again, which a progress bar hides."""


def how_to_go_on(run_dir: Path) -> str:
    """What to type after a run was stopped."""
    if has_finished(run_dir):
        return f"the run in {run_dir} has ended"
    if (run_dir / LAST).is_file():
        return f"go on with:\n  itervae train --resume {shlex.quote(str(run_dir))}"
    return "nothing was saved yet; begin again"


def leave(number: int, run_dir: Path) -> NoReturn:
    """End this process now, whatever it is doing, with the code of the signal; say first how to go
    on."""
    text = f"\nitervae: stopped at once; {how_to_go_on(run_dir)}\n"
    if os.isatty(2):
        text = _SHOW_CURSOR + text
    os.write(2, text.encode())
    os._exit(128 + number)


class Command:
    """The signals of a process of the command's own, where nothing is at stake: the first ends it
    in order, a second one at once.

    Args:
        run_dir: of the run, for what is said then.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.seen = run_dir, []

    def __call__(self, number: int, frame: Any) -> None:
        self.seen.append(number)
        if len(self.seen) == 1:
            raise KeyboardInterrupt
        self.leave(number)

    def leave(self, number: int) -> None:
        """End the process now, unless torchrun started it, which passes on both Ctrl-C, which all
        of its processes see, and what it makes of it."""
        if processes_of_run() == 1:
            leave(number, self.run_dir)


class Interrupt:
    """Turns the first signal into a wish to stop after the current update; a second one ends a
    process of the command's own, and is a KeyboardInterrupt in others.

    Args:
        patient: a second one changes nothing, as where several processes have to stop together.
    """

    number = 0
    """Number of the signal that came; 0 for none."""

    def __init__(self, patient: bool = False) -> None:
        self.asked, self._patient = False, patient

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and not self._patient:
            before = self._earlier.get(number)
            if isinstance(before, Command):
                before.leave(number)
            raise KeyboardInterrupt
        self.asked, self.number = True, number

    def __enter__(self) -> "Interrupt":
        self._earlier: dict[int, Any] = {}
        self._earlier |= _handle(self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._earlier)


@contextlib.contextmanager
def answered(run_dir: Path) -> Iterator[None]:
    """Around all that a process of the command's own does for a run, to its last line: what stops
    it says how to go on, and the process ends with the code of the signal."""
    command = Command(run_dir)
    earlier = _handle(command)
    try:
        yield
    except KeyboardInterrupt:
        if leads():
            print(f"itervae: stopped; {how_to_go_on(run_dir)}", file=sys.stderr)
        raise SystemExit(128 + (command.seen or [signal.SIGINT])[0]) from None
    finally:
        _restore(earlier)


def _handle(handler: Any) -> dict[int, Any]:
    # handlers can be set by the main thread only; elsewhere the caller's thread decides when to
    # stop
    main = threading.current_thread() is threading.main_thread()
    return {number: signal.signal(number, handler) for number in (SIGNALS if main else ())}


def _restore(earlier: dict[int, Any]) -> None:
    for number, handler in earlier.items():
        signal.signal(number, handler)
