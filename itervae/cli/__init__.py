"""The command: itervae COMMAND."""

import atexit
import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from itervae.allocator import keep_freed_memory
from itervae.errors import InputError, as_options

COMMANDS = {
    "train": "learn a model and its inference engine from images or arrays",
    "infer": "encode data with a trained run or a saved dictionary",
    "gap": "measure how far engines are from the best posterior",
    "evaluate": "measure codes: active units, sparsity, reconstruction, read-outs",
    "rate-distortion": "measure reconstruction error against sparsity",
    "sequence": "measure what carryover buys on sequences",
    "report": "write one page about a run: settings, curves, pictures, gap, codes",
    "export": "write the dictionary of a run",
    "figure": "draw a figure from reports",
    "engines": "list the inference engines and what each needs",
    "completion": "complete commands and options in your shell",
}
AFTER = "itervae COMMAND --help explains each; itervae --version says which this is."


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; errors of input end it with exit code 2 and one sentence, Ctrl-C with 130.

    Without `args` the process is the command's own: then Ctrl-C also ends it in silence as it
    begins, while packages are imported, and after its last line.
    """
    if args is not None or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        _run(list(sys.argv[1:] if args is None else args))  # or a shell has it ignored, in the background
        return
    signal.signal(signal.SIGINT, _stop)
    # the last moments of Python, in which the signal would be the code
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        _run(sys.argv[1:])
    finally:
        signal.signal(signal.SIGINT, _stop)
        with contextlib.suppress(OSError):  # nobody reads it any more
            sys.stdout.flush()


def _run(args: list[str]) -> None:
    _print_anything()
    shown = warnings.formatwarning
    try:
        # what is said, not which line says it
        warnings.formatwarning = lambda message, *where, **more: f"{as_options(str(message))}\n"
        if not args or args[0] in ("-h", "--help"):
            width = max(map(len, COMMANDS))
            lines = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
            print(f"usage: itervae COMMAND ...\n\n{lines}\n\n{AFTER}")
            return
        if args[0] == "--version":
            print(f"itervae {_version('itervae')}, torch {_version('torch')}")
            return
        if args[0] not in COMMANDS:
            from itervae.arguments import nearest

            near = nearest(args[0], COMMANDS)
            raise InputError(f"{args[0]!r} is not a command; {near}expected one of {', '.join(COMMANDS)}")
        keep_freed_memory()
        import_module(f"itervae.cli.{args[0].replace('-', '_')}").run(args[1:])
    except InputError as error:
        print(f"itervae: {as_options(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # nobody reads it any more, as after | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a signal would
    except OSError as error:
        if error.filename is None:
            raise
        reason = f"{error.filename!r} cannot be used ({error.strerror}); expected a path that can: name another"
        print(f"itervae: {reason}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("itervae: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        warnings.formatwarning = shown


def interruptible() -> None:
    """Let Ctrl-C raise an exception: all is imported, and the work begins."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(number: int, frame: Any) -> NoReturn:
    """End the process where an exception would be a traceback, or be swallowed."""
    os.write(2, b"itervae: stopped\n")
    os._exit(128 + number)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of a folder that is not installed"


def _print_anything() -> None:
    """Let the streams of this process write an escape for a character that their encoding lacks,
    and not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
