"""Stopping a run without losing anything, and at once where that is asked for.

The first Ctrl-C (or SIGTERM) stops a run after its current update, with a checkpoint. A second one ends the process
then and there: to raise an exception would be to hope that nothing swallows it, and that nothing waits for ever on the
way out. Whatever is half written then is what a killed run leaves too.
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

from itervae.training.checkpoint import LAST
from itervae.training.distributed import leads, processes_of_run
from itervae.training.reports import has_finished

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"
"""A progress bar hides it."""


def how_to_go_on(run_dir: Path) -> str:
    """What to type after a run was stopped."""
    if has_finished(run_dir):
        return f"the run in {run_dir} has ended"
    if (run_dir / LAST).is_file():
        return f"go on with:\n  itervae train --resume {shlex.quote(str(run_dir))}"
    return "nothing was saved yet; begin again"


def leave(number: int, run_dir: Path) -> NoReturn:
    """End this process now, whatever it is doing, with the code of the signal; say first how to go on."""
    text = f"\nitervae: stopped at once; {how_to_go_on(run_dir)}\n"
    if os.isatty(2):
        text = _SHOW_CURSOR + text
    os.write(2, text.encode())
    os._exit(128 + number)


class Interrupt:
    """Turns the first signal into a wish to stop after the current update; a second one ends the process.

    Args:
        run_dir: of the run, for what is said then.
        patient: a second one changes nothing. torchrun passes on both Ctrl-C, which all of its processes see, and what
            it makes of it.
    """

    number = 0
    """Of the signal that came; 0 for none."""

    def __init__(self, run_dir: Path, patient: bool = False) -> None:
        self.asked, self._run_dir, self._patient = False, run_dir, patient

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and not self._patient:
            leave(number, self._run_dir)
        self.asked, self.number = True, number

    def __enter__(self) -> "Interrupt":
        self._earlier = _handle(self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._earlier)


@contextlib.contextmanager
def answered(run_dir: Path) -> Iterator[None]:
    """Around the training of a process of its own, from its settings to its last line: where nothing is at stake, the
    first signal ends it in order, a second one at once, and both say how to go on."""
    seen: list[int] = []
    patient = processes_of_run() > 1

    def stop(number: int, frame: Any) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt
        if not patient:
            leave(number, run_dir)

    earlier = _handle(stop)
    try:
        yield
    except KeyboardInterrupt:
        if leads():
            print(f"itervae: stopped; {how_to_go_on(run_dir)}", file=sys.stderr)
        raise SystemExit(128 + (seen or [signal.SIGINT])[0]) from None
    finally:
        _restore(earlier)


def _handle(handler: Any) -> dict[int, Any]:
    # handlers can be set by the main thread only; elsewhere the caller's thread decides when to stop
    main = threading.current_thread() is threading.main_thread()
    return {number: signal.signal(number, handler) for number in (SIGNALS if main else ())}


def _restore(earlier: dict[int, Any]) -> None:
    for number, handler in earlier.items():
        signal.signal(number, handler)
