"""Images as training data: whitened as a whole, divided into training and validation, and cut into
patches."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import groupby
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itervae.data.images import ImageSet, images_from_array, read_images
from itervae.data.patches import PatchPool, PatchSource, fit_zca
from itervae.data.pictures import CHANNELS
from itervae.data.pixels import keep_pixels
from itervae.data.progress import watched
from itervae.data.settings import DataSettings
from itervae.data.source import Fitted, held_out
from itervae.data.whitening import CONTRAST_RULES, standardize_image, whiten_image
from itervae.data.zca import check_zca
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
        (H, W) float32 images, in colour (3, H, W), of mean 0 and variance 1, on the CPU. In colour
        each channel has mean 0, and one scale is for all three.

    Args:
        images: what was read.
        settings: `whiten`, `whitening`, `local_contrast` and `contrast_rule` are used. What ZCA
            whitens is patches: images are centred and scaled.
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
            raw = torch.stack([images.intensities(index) for index in members[start : start + step]])
            image = (whiten_image if settings.filtered else standardize_image)(raw, images.colour)
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
    images = images_from_array(pictures, where, settings.patch_size, colour=settings.colour, quiet=True)
    return _regions_source("photos", images, settings, seed, device, fitted, _facts(images, settings))


def images_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> PatchSource:
    """The user's images.

    Validation is another file or array where one is named; else a fixed random share of the images;
    of a single image, a band of its columns.

    Raises:
        InputError: see `read_images`; a validation set that is the training set.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path = Path(settings.data_path).expanduser()
    size, white, colour = settings.patch_size, fitted.get("white"), settings.colour
    images = read_images(path, settings.data_key, size, white=white, colour=colour)
    facts = {"path": str(path), **_facts(images, settings)}
    if settings.val_path is None and settings.val_key is None:
        if len(images) == 1:
            return _regions_source("images", images, settings, seed, device, fitted, facts)
        return shared_source("images", images, settings, seed, device, fitted, facts)
    val_path = path if settings.val_path is None else Path(settings.val_path).expanduser()
    held = read_images(val_path, settings.val_key, size, white=images.white, colour=colour)
    if held.content == images.content:
        raise InputError(f"{val_path} holds the training images themselves; name other images with `val_path`.")
    facts["validation_content"] = held.content
    pools = [_pool(chosen, settings, None, device) for chosen in (images, held)]
    whole, now = partial(prepare_images, held, settings), _fit(pools, images, settings, fitted)
    return PatchSource(
        "images", pools[0], pools[1], seed, facts=facts, held=whole, patches=settings.patches, device=device, fitted=now
    )


def shared_source(
    name: str,
    images: ImageSet,
    settings: DataSettings,
    seed: int,
    device: str | torch.device,
    fitted: Fitted,
    facts: dict,
) -> PatchSource:
    """Several images, a fixed random `val_share` of which are held out: no image gives patches to
    both sets."""
    train, validation = held_out(len(images), settings.val_share, "images")
    pools = [_pool(images, settings, indices.tolist(), device) for indices in (train, validation)]
    whole = partial(prepare_images, images, settings, validation.tolist())
    now = _fit(pools, images, settings, fitted)
    return PatchSource(
        name, pools[0], pools[1], seed, facts=facts, held=whole, patches=settings.patches, device=device, fitted=now
    )


def _regions_source(
    name: str,
    images: ImageSet,
    settings: DataSettings,
    seed: int,
    device: str | torch.device,
    fitted: Fitted,
    facts: dict,
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
        parts = (prepared()[number][..., start:end] for number, start, end in regions)
        pools.append(_kept(parts, sizes, (*_made_from(images, settings), regions), settings, device))

    def whole() -> Iterator[Tensor]:
        for image, (_, start, end) in zip(prepare_images(images, settings), validation, strict=True):
            yield image[..., start:end]

    now = _fit(pools, images, settings, fitted)
    return PatchSource(
        name, pools[0], pools[1], seed, facts=facts, held=whole, patches=settings.patches, device=device, fitted=now
    )


def _pool(
    images: ImageSet, settings: DataSettings, indices: Sequence[int] | None, device: str | torch.device
) -> PatchPool:
    indices = list(range(len(images))) if indices is None else indices
    sizes = [images.images[index].size for index in indices]
    prepared = prepare_images(images, settings, indices)
    return _kept(prepared, sizes, (*_made_from(images, settings), indices), settings, device)


def _kept(
    prepared: Iterable[Tensor],
    sizes: list[tuple[int, int]],
    made_from: tuple[object, ...],
    settings: DataSettings,
    device: str | torch.device,
) -> PatchPool:
    """Prepared images as a pool of patches; those in colour by row and then by channel, so that
    what a patch has of them lies close together."""
    channels = CHANNELS if settings.colour else 1
    rows = (image.movedim(0, 1) if settings.colour else image for image in prepared)
    area = sum(height * width for height, width in sizes)
    return PatchPool(keep_pixels(rows, channels * area, made_from, device), sizes, settings.patch_size, channels)


def _fit(pools: Sequence[PatchPool], images: ImageSet, settings: DataSettings, fitted: Fitted) -> Fitted:
    """What the training images and their patches were prepared with: fitted on these, unless it is
    given."""
    now = {} if images.white is None else {"white": images.white}
    if settings.whitening != "zca":
        return now
    zca = fit_zca(pools[0]) if "zca" not in fitted else fitted["zca"]
    check_zca(zca, prod(pools[0].shape))
    for pool in pools:
        pool.zca = zca.to(pool.pixels.values.device)
    return now | {"zca": zca}


def _made_from(images: ImageSet, settings: DataSettings) -> tuple[object, ...]:
    """What the pixels of prepared images depend on."""
    how = (settings.filtered, settings.local_contrast, settings.contrast_rule)
    return ("images", images.content, images.white, *how, *(["colour"] if images.colour else []))


def preparation_of(settings: DataSettings) -> dict[str, bool | str]:
    """What `describe` says of colour, whitening and local contrast."""
    way = {"whitening": settings.whitening} if settings.whiten else {}
    rule = {"contrast_rule": settings.contrast_rule} if settings.local_contrast else {}
    contrast = {"local_contrast": settings.local_contrast, **rule}
    return {"colour": settings.colour, "whiten": settings.whiten, **way, **contrast}


def _facts(images: ImageSet, settings: DataSettings) -> dict[str, int | float | str | bool]:
    return {
        "skipped_files": images.skipped,
        "constant_images": images.constant,
        **preparation_of(settings),
        "content": images.content,
        **({} if images.white is None else {"white": images.white}),
    }
