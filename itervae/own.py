"""Classes of a user's own, written MODULE:CLASS where a word has to stand for them: on a command
line, in a checkpoint.

What a user names is imported; what a file names never is, and has to be handed over by the user.
"""

import inspect
import sys
import traceback
from abc import ABC
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itervae.arguments import nearest
from itervae.errors import InputError, described

if TYPE_CHECKING:
    from torch.nn import Module
else:

    class Module(ABC):  # noqa: B024
        """`torch.nn.Module` in annotations of settings, which are read before torch is."""

        @classmethod
        def __subclasshook__(cls, kind: type) -> bool:
            from torch import nn

            return issubclass(kind, nn.Module)


def class_name(kind: type) -> str:
    """MODULE:CLASS."""
    return f"{kind.__module__}:{kind.__qualname__}"


def is_class_name(value: Any) -> bool:
    """Whether a value is MODULE:CLASS."""
    return isinstance(value, str) and ":" in value


def import_class(name: str, base: type) -> type:
    """The subclass of `base` that a user names as MODULE:CLASS; its module may lie in the current
    folder.

    Raises:
        InputError: no such module, or no such class in it.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise InputError(f"{name!r} names no class; expected MODULE:CLASS, such as my_module:MyEngine")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = import_module(module)
    except Exception as error:  # whatever a module of the user's own does when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(module):
            raise InputError(
                f"there is no module {module!r} to import {path} from; expected MODULE:CLASS, the module installed or "
                f"in the current folder, {here}"
            ) from error
        raise InputError(f"{module} cannot be imported ({_where(error)}); mend it, and try again") from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        if not hasattr(found, part):
            known = [each for each, kind in vars(found).items() if isinstance(kind, type) and issubclass(kind, base)]
            raise InputError(f"{module} has no class {path}; {nearest(path, known)}expected {_one_of(base, module)}")
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"{name} is {described(found)}; expected {_one_of(base, module)}")
    return found


def _where(error: Exception) -> str:
    """What an error in a module of the user's own is, and the place in it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}: {type(error).__name__}: {error}"


def _one_of(base: type, module: str) -> str:
    article = "an" if base.__name__[0] in "AEIOU" else "a"
    return f"a class in {module} that is {article} {base.__name__}"


def given_class(name: str, own: Collection[type], base: type) -> type:
    """The subclass of `base` that a file names as MODULE:CLASS, one of those that the user has
    handed over.

    A class of a script, whose module is __main__ where it is run and has a name where it is
    imported, is known by its own name.

    Raises:
        InputError: it was not handed over.
    """
    module, _, path = name.partition(":")
    for kind in own:
        alike = kind.__qualname__ == path and (kind.__module__ == module or "__main__" in (kind.__module__, module))
        if alike and issubclass(kind, base):
            return kind
    seen = ", ".join(class_name(kind) for kind in own if issubclass(kind, base))
    instead = f" ({seen} was handed over, which is another: give its module the name that it had)" if seen else ""
    raise InputError(
        f"the file names a class of your own, {name}, and files are never trusted to name code; hand the class over: "
        f"itervae.load(RUN, own=[{path}]), on the command line --own {name}{instead}"
    )


def check_own(own: Any) -> None:
    """Refuse what is no collection of classes."""
    alone = isinstance(own, type)
    if alone or isinstance(own, str) or not isinstance(own, Collection):
        such = own.__name__ if alone else "MyEngine"
        raise InputError(f"own is {described(own)}; expected a collection of classes, such as [{such}]")
    for kind in own:
        if not isinstance(kind, type):
            raise InputError(f"own holds {described(kind)}; expected classes, such as [MyEngine]")


def make(kind: type, expected: str, *values: Any, **named: Any) -> Any:
    """An object of a class of a user's own, who may have written it to be made in another way.

    Raises:
        InputError: it does not take these values; `expected` says what it is to take.
    """
    try:
        inspect.signature(kind).bind(*values, **named)
    except TypeError as error:
        raise InputError(f"{kind.__name__} does not take what it is made of ({error}); expected {expected}") from error
    return kind(*values, **named)


def _parents(module: str) -> list[str]:
    """The module and the packages that it lies in."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
