"""From YAML files and command lines to `RunSettings`: each engine, model and carryover has its own
settings, and a setting that does not apply is an error."""

from itervae.config.command import parse_train
from itervae.config.files import read_yaml

__all__ = ["parse_train", "read_yaml"]
