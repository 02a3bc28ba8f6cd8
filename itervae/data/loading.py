"""The source that some settings describe."""

import torch

from itervae.data.settings import DataSettings
from itervae.data.source import NOTHING_FITTED, Fitted, Source
from itervae.data.tubes import Stills, TubeSource
from itervae.registry import Listed


def load_source(
    settings: DataSettings, seed: int, device: str | torch.device = "cpu", fitted: Fitted = NOTHING_FITTED
) -> Source:
    """The source that `settings` describe, with its data on `device`.

    Args:
        settings: which data, and how they are prepared.
        seed: at least 0; decides the training batches, and nothing else: what is held out is the
            same for every seed.
        device: where batches and validation data are; the training data too, where they take a
            small share of it.
        fitted: what was fitted on the training data of a run (`Source.fitted`), to prepare other
            data as it did its own; by default it is fitted on these.

    Raises:
        InputError: settings that contradict each other, or data that are missing or unfit.
    """
    settings.check()
    load = settings.kind.load
    source = (load.load() if isinstance(load, Listed) else load)(settings, seed, device, fitted)
    source.settings = settings
    return source


def load_stills(
    settings: DataSettings, seed: int, device: str | torch.device = "cpu", fitted: Fitted = NOTHING_FITTED
) -> Source:
    """The same as data without order: of sequences, single frames."""
    source = load_source(settings, seed, device, fitted)
    return Stills(source) if isinstance(source, TubeSource) else source
