"""Images as training data: whitened as a whole, divided into training and validation, and cut into
patches."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itervae.data.images import ImageSet, images_from_array, read_images
from itervae.data.patches import PatchPool, PatchSource
from itervae.data.pixels import keep_pixels
from itervae.data.progress import watched
from itervae.data.settings import DataSettings
from itervae.data.source import Fitted, held_out
from itervae.data.whitening import CONTRAST_RULES, standardize_image, whiten_image
from itervae.errors import InputError

# Images of one size are whitened together, up to this many pixels: it bounds the memory of the
# Fourier transform.
CHUNK_PIXELS = 4_000_000

# Where one image gives both sets, validation is the band of columns from this share of the width
# on. In the two sample photographs its variance (.78 and .88 of the whole image's) comes closest to
# the mean; their margins are out of focus.
BAND_START = 0.6


def prepare_images(images: ImageSet, settings: DataSettings, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
    """Whiten images (or only centre and scale them), and normalize local contrast if asked.

    Yields:
        (H, W) float32 images of mean 0 and variance 1, on the CPU.

    Args:
        images: what was read.
        settings: `whiten`, `local_contrast` and `contrast_rule` are used.
        indices: which images, in this order; all by default.
    """
    wanted = range(len(images)) if indices is None else indices
    yield from watched(_prepared(images, settings, wanted), len(wanted), "whitening images")


def _prepared(images: ImageSet, settings: DataSettings, indices: Sequence[int]) -> Iterator[Tensor]:
    sizes = images.sizes()
    for (height, width), group in groupby(indices, key=lambda index: sizes[index]):
        members = list(group)
        step = max(1, CHUNK_PIXELS // (height * width))
        for start in range(0, len(members), step):
            grey = torch.stack([images.grey(index) for index in members[start : start + step]])
            image = whiten_image(grey) if settings.whiten else standardize_image(grey)
            if settings.local_contrast:
                image = standardize_image(CONTRAST_RULES[settings.contrast_rule](image))
            yield from image


def photos_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> PatchSource:
    """The two photographs that come with scikit-learn; a band of columns, `val_share` of the width,
    is for validation.

    Raises:
        InputError: a side of the patch that does not fit into one of the regions.
    """
    from sklearn.datasets import load_sample_images  # imported here: it takes a second that other data need not wait

    pictures, where = np.stack(load_sample_images().images), "scikit-learn's photographs"
    images = images_from_array(pictures, where, settings.patch_size, quiet=True)
    return _regions_source("photos", images, settings, seed, device, _facts(images, settings))


def images_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> PatchSource:
    """The user's images.

    Validation is another file or array where one is named; else a fixed random share of the images;
    of a single image, a band of its columns.

    Raises:
        InputError: see `read_images`; a validation set that is the training set.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path = Path(settings.data_path).expanduser()
    images = read_images(path, settings.data_key, settings.patch_size, white=fitted.get("white"))
    facts = {"path": str(path), **_facts(images, settings)}
    if settings.val_path is None and settings.val_key is None:
        if len(images) == 1:
            return _regions_source("images", images, settings, seed, device, facts)
        return shared_source("images", images, settings, seed, device, facts)
    val_path = path if settings.val_path is None else Path(settings.val_path).expanduser()
    held = read_images(val_path, settings.val_key, settings.patch_size, white=images.white)
    if held.content == images.content:
        raise InputError(f"{val_path} holds the training images themselves; name other images with `val_path`.")
    facts["validation_content"] = held.content
    pools = [_pool(chosen, settings, None, device) for chosen in (images, held)]
    whole, fitted = partial(prepare_images, held, settings), _fitted(images)
    return PatchSource("images", pools[0], pools[1], seed, facts=facts, held=whole, device=device, fitted=fitted)


def shared_source(
    name: str, images: ImageSet, settings: DataSettings, seed: int, device: str | torch.device, facts: dict
) -> PatchSource:
    """Several images, a fixed random `val_share` of which are held out: no image gives patches to
    both sets."""
    train, validation = held_out(len(images), settings.val_share, "images")
    pools = [_pool(images, settings, indices.tolist(), device) for indices in (train, validation)]
    whole, fitted = partial(prepare_images, images, settings, validation.tolist()), _fitted(images)
    return PatchSource(name, pools[0], pools[1], seed, facts=facts, held=whole, device=device, fitted=fitted)


def _regions_source(
    name: str, images: ImageSet, settings: DataSettings, seed: int, device: str | torch.device, facts: dict
) -> PatchSource:
    """Every image is whitened as a whole; a band of columns is for validation, what lies beside it
    for training."""
    size = settings.patch_size
    training, validation = [], []  # image, first column and the one after the last
    for number, (height, width) in enumerate(images.sizes()):
        held = round(settings.val_share * width)
        first = min(round(BAND_START * width), width - held)
        beside = [(number, *ends) for ends in ((0, first), (first + held, width)) if ends[1] - ends[0] >= size]
        if held < size or not beside:
            raise InputError(
                f"`val_share={settings.val_share}` divides an image of {height}x{width} into {width - held} and {held} "
                f"columns, and patches need {size} in each; give another share or a smaller `patch_size`."
            )
        training += beside
        validation.append((number, first, first + held))

    @cache
    def prepared() -> list[Tensor]:
        return list(prepare_images(images, settings))

    pools = []
    for regions in (training, validation):
        sizes = [(images.images[number].size[0], end - start) for number, start, end in regions]
        parts = (prepared()[number][:, start:end] for number, start, end in regions)
        pixels = keep_pixels(parts, _area(sizes), (*_made_from(images, settings), regions), device)
        pools.append(PatchPool(pixels, sizes, size))

    def whole() -> Iterator[Tensor]:
        for image, (_, start, end) in zip(prepare_images(images, settings), validation, strict=True):
            yield image[:, start:end]

    fitted = _fitted(images)
    return PatchSource(name, pools[0], pools[1], seed, facts=facts, held=whole, device=device, fitted=fitted)


def _pool(
    images: ImageSet, settings: DataSettings, indices: Sequence[int] | None, device: str | torch.device
) -> PatchPool:
    indices = list(range(len(images))) if indices is None else indices
    sizes = [images.images[index].size for index in indices]
    prepared = prepare_images(images, settings, indices)
    pixels = keep_pixels(prepared, _area(sizes), (*_made_from(images, settings), indices), device)
    return PatchPool(pixels, sizes, settings.patch_size)


def _area(sizes: list[tuple[int, int]]) -> int:
    return sum(height * width for height, width in sizes)


def _made_from(images: ImageSet, settings: DataSettings) -> tuple[object, ...]:
    """What the pixels of prepared images depend on."""
    return ("images", images.content, images.white, settings.whiten, settings.local_contrast, settings.contrast_rule)


def contrast_of(settings: DataSettings) -> dict[str, bool | str]:
    """What `describe` says of local contrast."""
    rule = {"contrast_rule": settings.contrast_rule} if settings.local_contrast else {}
    return {"local_contrast": settings.local_contrast, **rule}


def _fitted(images: ImageSet) -> Fitted:
    return {} if images.white is None else {"white": images.white}


def _facts(images: ImageSet, settings: DataSettings) -> dict[str, int | float | str | bool]:
    return {
        "skipped_files": images.skipped,
        "constant_images": images.constant,
        "whiten": settings.whiten,
        **contrast_of(settings),
        "content": images.content,
        **_fitted(images),
    }
