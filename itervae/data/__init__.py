"""Data: images, arrays and benchmarks as sources of batches, and files as inputs to a trained run."""

import torch

from itervae.data.arrays import array_source
from itervae.data.benchmarks import cifar16_source, mnist_source
from itervae.data.drift import load_drift
from itervae.data.inputs import Inputs, Preparation
from itervae.data.photographs import images_source, photos_source
from itervae.data.prefetch import Prefetcher
from itervae.data.settings import DataSettings
from itervae.data.source import NOTHING_FITTED, Fitted, Source
from itervae.data.tubes import Stills, TubeSource, check_window, typical
from itervae.data.video import load_video

__all__ = [
    "NOTHING_FITTED",
    "DataSettings",
    "Fitted",
    "Inputs",
    "Prefetcher",
    "Preparation",
    "Source",
    "TubeSource",
    "check_window",
    "load_source",
    "load_stills",
    "typical",
]

_SOURCES = {
    "photos": photos_source,
    "images": images_source,
    "array": array_source,
    "mnist": mnist_source,
    "cifar16": cifar16_source,
    "video": load_video,
    "drift": load_drift,
}


def load_source(
    settings: DataSettings, seed: int, device: str | torch.device = "cpu", fitted: Fitted = NOTHING_FITTED
) -> Source:
    """The source that `settings` describe, with its data on `device`.

    Args:
        settings: which data, and how they are prepared.
        seed: at least 0; decides the training batches, and nothing else: what is held out is the same for every seed.
        device: where batches and validation data are; the training data too, where they take a small share of it.
        fitted: what was fitted on the training data of a run (`Source.fitted`), to prepare other data as it did its
        own;
            by default it is fitted on these.

    Raises:
        InputError: settings that contradict each other, or data that are missing or unfit.
    """
    settings.check()
    return _SOURCES[settings.data](settings, seed, device, fitted)


def load_stills(
    settings: DataSettings, seed: int, device: str | torch.device = "cpu", fitted: Fitted = NOTHING_FITTED
) -> Source:
    """The same as data without order: of sequences, single frames."""
    source = load_source(settings, seed, device, fitted)
    return Stills(source) if isinstance(source, TubeSource) else source
