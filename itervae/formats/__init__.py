"""Files that hold arrays: one reader of all formats, for data, labels, inputs and dictionaries."""

from itervae.formats.kinds import named
from itervae.formats.reading import FORMATS, array_names, check_file, is_array_file, read_array
from itervae.formats.text import read_words
from itervae.formats.wave import sample_rate

__all__ = ["FORMATS", "array_names", "check_file", "is_array_file", "named", "read_array", "read_words", "sample_rate"]
