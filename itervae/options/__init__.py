"""The options of a command, as a dataclass: parsed by tyro, refused in one sentence, explained in
few lines."""

from itervae.options.fields import flag, given
from itervae.options.help import HELP_ALL, asks_help
from itervae.options.parsing import parse

__all__ = ["HELP_ALL", "asks_help", "flag", "given", "parse"]
