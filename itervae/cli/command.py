"""What all commands share: options, the order of their work, and where their results go.

The target comes first. Data options overlay the settings of the run. Outputs are checked before the
work, written before anything is printed, and named at the end.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import tyro

from itervae.arguments import check_whole
from itervae.cli import interruptible
from itervae.cli.outputs import check_outputs
from itervae.cli.targets import check_engine, check_target, own_classes
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.formats import is_array_file
from itervae.options import HELP_ALL, asks_help, given, parse
from itervae.paths import check_path
from itervae.plotting.formats import FORMATS

if TYPE_CHECKING:
    import torch

    from itervae.cli.runs import Target


class Output(NamedTuple):
    """A file that a command writes: what it holds, and what its name has to end in, or the endings
    that it may have."""

    what: str
    suffix: str | tuple[str, ...] = ""


REPORT, FIGURE = Output("report"), Output("figure", FORMATS)


class Command(ABC):  # noqa: B024 (subclasses of it have such)
    """A command: a dataclass of its options, and its work in parts that are called one after the
    other.

    Options are read and refused before torch is imported, which takes seconds: what needs it is
    imported where it is used, or stands in the module that `WORK` names.
    """

    OUTPUTS: ClassVar[Mapping[str, Output]] = {}
    """The files that it writes, by the names of their options."""
    EXAMPLES: ClassVar[tuple[str, ...]] = ()
    """Command lines that its help ends with."""
    WORK: ClassVar[str] = ""
    """Module with functions `work(options)`, `files(options, found)` and `tell(options, found)`, of
    a command that does not write these methods itself."""

    def reads(self) -> Sequence[Path]:
        """Files that no output may replace."""
        return ()

    def check(self) -> None:  # noqa: B027 (nothing, where nothing can be wrong)
        """Refuse options that are wrong whatever the target is."""

    def prepare(self, given: Collection[str]) -> contextlib.AbstractContextManager[object]:
        """Make ready what `work` needs, and what holds while it works; `given` are the options on
        the command line."""
        return contextlib.nullcontext()

    def work(self) -> Any:
        """What is found; nothing is printed yet."""
        return import_module(self.WORK).work(self)

    def files(self, found: Any) -> Mapping[str, Callable[[Path], object]]:
        """What writes each output, by the name of its option; those that `work` has written are
        left out."""
        return import_module(self.WORK).files(self, found) if self.WORK else {}

    def tell(self, found: Any) -> None:
        """Print what was found."""
        if self.WORK:
            import_module(self.WORK).tell(self, found)

    @classmethod
    def shown(cls, args: Sequence[str]) -> Mapping[str, Any]:
        """Defaults that the help shows in place of those of the class."""
        return {}

    @classmethod
    def run(cls, prog: str, args: Sequence[str]) -> None:
        """Do what a command line says."""
        if asks_help(args):
            words = [word for word in args if word in (HELP_ALL, "-h", "--help")]
            parse(cls, prog, words, cls.shown(args), cls.EXAMPLES)
        options = parse(cls, prog, args)
        options.check()
        outputs = check_outputs(options, {name: output.suffix for name, output in cls.OUTPUTS.items()}, options.reads())
        with options.prepare(given(cls, args).keys()):
            if options.WORK:
                import_module(options.WORK)
            interruptible()
            found = options.work()
        for name, write in options.files(found).items():
            if name in outputs:
                write(outputs[name])
        options.tell(found)
        for name, path in outputs.items():
            print(f"{cls.OUTPUTS[name].what} written to {path}")


@dataclass
class Shared:
    """What every command that computes takes."""

    own: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE:CLASS ...")] = ()
    """Classes of your own that the runs were trained with; no file is trusted to name code."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    threads: int | None = None
    """CPU threads; all cores by default."""


@dataclass(kw_only=True)
class Measurement(Command):
    """A command that computes with targets: runs, checkpoints or dictionary files.

    One that reads data has an option `data: DataSettings`; as it works, these are the settings of
    the runs, with what the command line says in place of them.
    """

    SAES: ClassVar[bool] = False
    """Whether a target may be the folder of a sparse autoencoder."""
    shared: Shared = field(default_factory=Shared)
    if TYPE_CHECKING:
        targets: dict[str, Target] = field(init=False)
        """By short names, once the work begins."""
        device: torch.device = field(init=False)

    @property
    @abstractmethod
    def paths(self) -> Sequence[Path]:
        """Where the targets are."""

    @property
    def named(self) -> Sequence[str]:
        """The engines that the options name, each ENGINE:STEPS: one of the user's own counts as
        `--own`."""
        return ()

    def reads(self) -> Sequence[Path]:
        return self.paths

    def prepare(self, given: Collection[str]) -> contextlib.AbstractContextManager[object]:
        if self.shared.threads is not None:
            check_whole("--threads", self.shared.threads, 1)
        for path in self.paths:
            check_target(path, self.SAES)
        for name in self.named:
            check_engine(name)
        from itervae.cli.show import begin

        begin(f"opening {', '.join(map(str, self.paths))}")
        from itervae.cli.runs import common_data
        from itervae.training import choose_device

        self.device = choose_device(self.shared.device)
        self.targets = self.open_targets()
        if (data := getattr(self, "data", None)) is not None:
            chosen = {setting.name: getattr(data, setting.name) for setting in fields(data) if setting.name in given}
            self.data = common_data(self.targets.values(), chosen)
            if any(target.model.convolutional for target in self.targets.values()):
                self.data.check_pictures()
        return _threads(self.shared.threads)

    def own(self) -> list[type]:
        """Classes of the user's own."""
        return own_classes(self.shared.own, self.named)

    def open_targets(self) -> "dict[str, Target]":
        """The targets by short names, each once."""
        from itervae.cli.runs import open_target, short_names

        own, paths = self.own(), list(dict.fromkeys(self.paths))
        reading, shape, files = getattr(self, "reading", None), getattr(self, "shape", None), self.dictionaries()
        return {
            # what is said of dictionary files is refused of a run, unless it is of another target
            name: open_target(path, own, reading if path in files or not files else None, shape)
            for name, path in zip(short_names(paths), paths, strict=True)
        }

    def dictionaries(self) -> list[Path]:
        """The dictionary files that were named."""
        return [*filter(is_array_file, self.paths)]

    @classmethod
    def shown(cls, args: Sequence[str]) -> Mapping[str, Any]:
        """The data settings of the first target, where one is named and can be read."""
        named = list(takewhile(lambda word: not word.startswith("-"), args))
        if not named or "data" not in {option.name for option in fields(cls)}:
            return {}
        with contextlib.suppress(InputError):
            check_target(check_path(named[0]))
            from itervae.cli.runs import open_target

            return {"data": open_target(check_path(named[0])).data or DataSettings()}
        return {}


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """So many CPU threads, until all is done."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
