"""Data: images, arrays and benchmarks as sources of batches, and files as inputs to a trained
run."""

from itervae.data.given import as_source
from itervae.data.inputs import Inputs, Preparation
from itervae.data.prefetch import Prefetcher
from itervae.data.registry import load_source, load_stills
from itervae.data.settings import SOURCES, DataSettings, SourceKind
from itervae.data.source import NOTHING_FITTED, Fitted, Source
from itervae.data.tubes import TubeSource, check_window, typical

__all__ = [
    "NOTHING_FITTED",
    "SOURCES",
    "DataSettings",
    "Fitted",
    "Inputs",
    "Prefetcher",
    "Preparation",
    "Source",
    "SourceKind",
    "TubeSource",
    "as_source",
    "check_window",
    "load_source",
    "load_stills",
    "typical",
]
