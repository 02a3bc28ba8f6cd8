"""Data: images, arrays and benchmarks as sources of batches, and files as inputs to a trained
run."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.data.given import as_source
    from itervae.data.inputs import Preparation
    from itervae.data.kinds import SOURCES, SourceKind, source_kind
    from itervae.data.loading import load_source, load_stills
    from itervae.data.prefetch import Prefetcher
    from itervae.data.prepared import Inputs
    from itervae.data.settings import DataSettings, check_window
    from itervae.data.source import NOTHING_FITTED, Fitted, Source, describe_fitted, fitted_alike
    from itervae.data.truth import Truth
    from itervae.data.tubes import TubeSource, typical

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
    "Truth",
    "TubeSource",
    "as_source",
    "check_window",
    "describe_fitted",
    "fitted_alike",
    "load_source",
    "load_stills",
    "source_kind",
    "typical",
]
__getattr__, __dir__ = lazily(__name__)
