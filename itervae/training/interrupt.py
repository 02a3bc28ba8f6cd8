"""Stopping a run without losing anything."""

import signal
import threading
from typing import Any


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the current update; a second one stops at once.

    Args:
        patient: a second one changes nothing. torchrun passes on both Ctrl-C, which all of its processes see, and what
            it makes of it.
    """

    def __init__(self, patient: bool = False) -> None:
        self.asked, self._patient = False, patient

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and not self._patient:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> "Interrupt":
        # handlers can be set by the main thread only; elsewhere the caller's thread decides when to stop
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._earlier = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
