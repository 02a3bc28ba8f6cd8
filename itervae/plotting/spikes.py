"""A sequence as it was filtered: frames, the spikes that they call for, and reconstructions; still
or moving."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itervae.errors import InputError
from itervae.files import write_bytes
from itervae.paths import check_path
from itervae.plotting.arrays import datum_shape, matrix
from itervae.plotting.canvas import DPI, INK, QUIET, RED, grey

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAMES_PER_SECOND = 6
FEWEST = 6
"""A shorter sequence does not fill the width, or its frames would be huge."""


def spikes_figure(
    x: np.ndarray, counts: np.ndarray, reconstruction: np.ndarray, shape: Sequence[int], title: str = ""
) -> "Figure":
    """Frames above, a raster of spikes between, reconstructions below, in step.

    Units that are silent throughout are left out; the others are ordered by the mean time of their
    spikes. A dot's area is the count. All frames and reconstructions share one grey scale, zero
    being mid-grey; red is not finite.

    Args:
        x: (T, D) frames of a sequence.
        counts: (T, K) spikes.
        reconstruction: (T, D) decoded mean rates.
        shape: (H, W) of a frame.
        title: above the picture.

    Raises:
        InputError: shapes that do not fit, or frames that are not images.
    """
    from itervae.plotting.shown import Figure

    strips, spikes = _checked(x, counts, reconstruction, shape)
    frames = len(spikes)
    across = max(frames, FEWEST)
    tall = strips[0].shape[1] / strips[0].shape[2]
    strip = 7.0 * tall / across
    figure = Figure(figsize=(8.0, 2 * strip + 3.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(strip, 2.6, strip))
    for axes, images, name in ((panels[0], strips[0], "frames"), (panels[2], strips[1], "recon-\nstruction")):
        axes.imshow(
            np.concatenate(list(images), 1),
            cmap=_greys(),
            vmin=0,
            vmax=1,
            extent=(0.5, frames + 0.5, 0, 1),
            aspect="auto",
            interpolation="nearest",
        )
        for edge in range(1, frames):
            axes.axvline(edge + 0.5, color="white", linewidth=0.8)
        axes.set_yticks([])
        axes.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
        axes.spines[:].set_visible(False)
        axes.tick_params(bottom=False)
    _raster(panels[1], spikes)
    panels[1].set_xlim(0.5, across + 0.5)
    panels[2].set_xlabel("frame", fontsize=8)
    panels[2].tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    return figure


def sequence_animation(
    x: np.ndarray, counts: np.ndarray, reconstruction: np.ndarray, shape: Sequence[int]
) -> list[np.ndarray]:
    """The same, moving: the frame, its reconstruction, and the raster with a line at the present;
    (H, W, 3) uint8 each.

    Args and Raises: as of `spikes_figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from itervae.plotting.shown import Figure

    strips, spikes = _checked(x, counts, reconstruction, shape)
    figure = Figure(figsize=(8.0, 2.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    images = []
    for axes, strip, name in zip(panels, strips, ("frame", "reconstruction"), strict=False):
        images.append(axes.imshow(strip[0], cmap=_greys(), vmin=0, vmax=1, interpolation="nearest"))
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    _raster(panels[2], spikes)
    panels[2].set_xlim(0.5, max(len(spikes), FEWEST) + 0.5)
    panels[2].set_xlabel("frame", fontsize=8)
    line = panels[2].axvline(1, color="#d55e00", linewidth=1)
    found = []
    for time in range(len(spikes)):
        for image, strip in zip(images, strips, strict=True):
            image.set_data(strip[time])
        line.set_xdata([time + 1])
        canvas.draw()
        found.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return found


def save_animation(frames: Sequence[np.ndarray], path: str | Path) -> None:
    """Write a looping GIF; `path` holds the whole of it or what it held before.

    Raises:
        InputError: no frame, the name does not end in .gif, or the file cannot be written.
    """
    from PIL import Image

    path = check_path(path)
    if path.suffix.lower() != ".gif":
        raise InputError(f"the animation's name is {path}; expected one that ends in .gif")
    if not len(frames):
        raise InputError("there is no frame to write; pass those of a sequence")
    first, *others = (Image.fromarray(frame) for frame in frames)
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=round(1000 / FRAMES_PER_SECOND), loop=0)
    write_bytes(path, content.getvalue())


def _checked(
    x: np.ndarray, counts: np.ndarray, reconstruction: np.ndarray, shape: Sequence[int]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Grey frames and reconstructions (T, H, W), and counts (T, K)."""
    x, counts, reconstruction = (
        matrix(value, name, axes)
        for value, name, axes in (
            (x, "x", "(T, D)"),
            (counts, "counts", "(T, K)"),
            (reconstruction, "reconstruction", "(T, D)"),
        )
    )
    size = datum_shape(shape, x.shape[1], "x")
    if len(size) != 2:
        raise InputError(f"a frame has the shape {size}; expected an image (H, W) to draw")
    if reconstruction.shape != x.shape or len(counts) != len(x):
        raise InputError(
            f"x, counts and reconstruction have the shapes {x.shape}, {counts.shape} and {reconstruction.shape}; "
            "expected (T, D), (T, K) and (T, D)"
        )
    largest = float(np.abs(np.nan_to_num(x)).max()) or 1.0
    return (
        grey(x, largest, True).reshape(-1, *size),
        grey(reconstruction, largest, True).reshape(-1, *size),
    ), np.nan_to_num(counts)


def _greys() -> Any:
    from matplotlib import colormaps

    return colormaps["gray"].with_extremes(bad=RED)


def _raster(axes: "Axes", counts: np.ndarray) -> None:
    """Dots at (frame, unit), area by |count|, units by the mean time of their spikes."""
    from matplotlib.ticker import MaxNLocator

    sizes = np.abs(counts)
    total = sizes.sum(0)
    active = np.flatnonzero(total)
    when = (sizes * np.arange(1, len(sizes) + 1)[:, None]).sum(0)[active] / total[active]
    shown = sizes[:, active[np.argsort(when)]]
    time, unit = np.nonzero(shown)
    axes.scatter(time + 1, unit, s=6 * shown[time, unit], color=INK, linewidths=0)
    axes.set_ylim(-1, max(1, len(active)))
    axes.set_ylabel(f"{len(active)} of {counts.shape[1]} units", fontsize=8)
    axes.set_yticks([])
    ticks = MaxNLocator(integer=True, min_n_ticks=1).tick_values(1, len(counts))
    axes.set_xticks([tick for tick in ticks if 1 <= tick <= len(counts) and tick == int(tick)])
    axes.tick_params(labelsize=7, colors=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
