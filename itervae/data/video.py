"""Tubes of the user's video: decoded, cut into scenes, whitened, whole sequences held out.

Every frame is filtered as images are (see `whitening`), but not scaled to unit variance by itself:
a moment of low contrast, such as a fade, stays one. One scale, from the training sequences alone,
gives them unit variance together.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from itervae.data.decoding import Clips, read_clips
from itervae.data.images import some
from itervae.data.pixels import Pixels, keep_pixels
from itervae.data.pools import MIN_VARIANCE
from itervae.data.progress import progress_bar, watched
from itervae.data.scenes import split_scenes
from itervae.data.settings import DataSettings
from itervae.data.source import NOTHING_FITTED, Fitted, held_out
from itervae.data.tubes import TubePool, TubeSource
from itervae.data.whitening import filter_image
from itervae.errors import InputError

CHUNK_FRAMES = 64  # filtered together, which bounds the memory of the Fourier transform


def load_video(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> TubeSource:
    """Tubes of `settings.data_path`, decoded with a progress bar; what could not be read is said.

    Raises:
        InputError: see `read_clips` and `video_source`.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    console = Console(stderr=True)
    with progress_bar("decoding") as bar:
        task = bar.add_task("", total=None)
        clips = read_clips(
            settings.data_path,
            white=fitted.get("white"),
            advance=lambda done, total, name: bar.update(task, completed=done, total=total, description=name),
        )
    for name, reason in clips.skipped:
        console.print(f"skipped {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    for clip in clips.clips:
        if clip.note:
            console.print(f"{clip.name}: {clip.note}", highlight=False, markup=False, soft_wrap=True)
    for line in clips.remarks:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    count, frames = len(clips.clips), sum(len(clip.frames) for clip in clips.clips)
    console.print(
        f"{count} clip{'s' * (count > 1)}, {frames} frames; {clips.size / 1e6:.1f} MB in the cache {clips.folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    source = video_source(
        clips,
        seed,
        frames=settings.frames,
        patch_size=settings.patch_size,
        held=settings.held_sequences(),
        device=device,
        fitted=fitted,
    )
    if left_out := source.describe()["skipped_scenes"]:
        console.print(
            f"{left_out} scene{'s' * (left_out != 1)} left out, with fewer than {settings.frames} frames or smaller "
            f"than {settings.patch_size}x{settings.patch_size} pixels",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return source


def video_source(
    clips: Clips,
    seed: int,
    *,
    frames: int = 16,
    patch_size: int = 16,
    held: float | Sequence[str] = 0.2,
    device: str | torch.device = "cpu",
    fitted: Fitted = NOTHING_FITTED,
) -> TubeSource:
    """Tubes of the clips' scenes; whole sequences are held out for validation.

    A sequence is a clip. Of a single clip that is to be divided it is a scene, called NAME#0,
    NAME#1, ..., since nothing else is left; of a single scene, its first part or, held out, the
    rest, NAME#1. Scenes of fewer than `frames` frames, or smaller than the patch, are counted and
    left out.

    Args:
        clips: as from `read_clips`.
        seed: of the training tubes.
        frames, patch_size: T and P of the tubes.
        held: names of the sequences to hold out, each one or several with commas between, or the
            share of them, chosen at random but the same for every seed; 1 for all, where `fitted`
            has the scale.
        device: where the frames live.
        fitted: the `scale` of a run, in place of that of these training sequences.

    Raises:
        InputError: no scene is long enough; an unknown sequence; nothing left to train on, or to
            hold out; a frames below 1, a patch_size below 2 or a share outside (0, 1).
    """
    if frames < 1 or patch_size < 2:
        raise InputError(f"tubes of {frames} frames of side {patch_size} cannot be cut; give at least 1 and 2.")
    sequences = {clip.name: split_scenes(clip.frames) for clip in clips.clips}
    if len(sequences) == 1 and held != 1:
        ((name, scenes),) = sequences.items()
        if len(scenes) == 1 and not isinstance(held, Sequence) and 0 < held < 1:
            cut = round((1 - held) * len(scenes[0]))
            if min(cut, len(scenes[0]) - cut) < frames:
                raise InputError(
                    f"the only scene, of {name}, has {len(scenes[0])} frames; {cut} to train on and "
                    f"{len(scenes[0]) - cut} held out do not give tubes of {frames} frames both: give a longer or a "
                    "second clip, fewer frames or another share in `val_sequences`."
                )
            scenes, held = [scenes[0][:cut], scenes[0][cut:]], [f"{name}#1"]
        sequences = {f"{name}#{number}": [scene] for number, scene in enumerate(scenes)}
    every = [scene for scenes in sequences.values() for scene in scenes]
    usable = {name: [s for s in scenes if _fits(s, frames, patch_size)] for name, scenes in sequences.items()}
    usable = {name: scenes for name, scenes in usable.items() if scenes}
    if not usable:
        longest = max(every, key=len)
        raise InputError(
            f"no scene gives a tube of {frames} frames of {patch_size}x{patch_size} pixels; the longest has "
            f"{len(longest)} frames of {longest.shape[1]}x{longest.shape[2]}: give longer clips, fewer frames or a "
            "smaller patch."
        )
    train_names, held_names = _divide(list(usable), list(sequences), held)

    def pixels(names: list[str]) -> Pixels:
        scenes = [scene for name in names for scene in usable[name]]
        made_from = ("video", clips.content, [(name, [scene.shape for scene in usable[name]]) for name in names])
        return keep_pixels(_filtered(scenes), sum(scene.size for scene in scenes), made_from, device)

    seen = pixels(train_names) if train_names else None
    if "scale" in fitted:
        scale = fitted["scale"]
    elif seen is None:
        raise InputError(
            "all sequences are held out, and the scale of whitening is fitted on the others; hold out a part of them."
        )
    elif not seen.mean_square > MIN_VARIANCE:
        raise InputError("the frames of the training sequences are constant; give video with structure.")
    else:
        scale = seen.mean_square**-0.5

    def pool(pixels: Pixels, names: list[str]) -> TubePool:
        sizes = [scene.shape for name in names for scene in usable[name]]
        return TubePool(pixels, sizes, frames, patch_size, scale)

    train = None if seen is None else pool(seen, train_names)
    validation = {name: pool(pixels([name]), [name]) for name in held_names}
    now_fitted = {"scale": scale, **({} if clips.white is None else {"white": clips.white})}
    facts = {
        "content": clips.content,
        "skipped_files": len(clips.skipped),
        "partial_clips": sum(bool(clip.note) for clip in clips.clips),
        "skipped_scenes": len(every) - sum(map(len, usable.values())),
        "train_sequences": len(train_names),
        "validation_sequences": ", ".join(held_names),
        **now_fitted,
    }
    return TubeSource("video", train, validation, seed, frames, facts=facts, device=device, fitted=now_fitted)


def _fits(scene: np.ndarray, frames: int, patch_size: int) -> bool:
    return len(scene) >= frames and min(scene.shape[1:]) >= patch_size


def _divide(usable: list[str], known: list[str], held: float | Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the training and of the held-out sequences."""
    if isinstance(held, str):
        held = [held]
    if isinstance(held, Sequence):
        held = [name for text in held for name in _names(text, known)]
        for name in held:
            if name not in known:
                raise InputError(f"no sequence is called '{name}'; name one of {', '.join(known)}.")
            if name not in usable:
                raise InputError(f"the sequence '{name}' has no tube; hold out another or use fewer frames.")
        left = [name for name in usable if name not in held]
        if not held or not left:
            raise InputError(
                f"{len(held)} of {len(usable)} sequences are held out ({some(list(held))}); hold out at least one and "
                "leave at least one."
            )
        return left, [name for name in usable if name in held]
    if held == 1:
        return [], usable
    if not 0 < held < 1:
        raise InputError(f"a share of {held} of the sequences cannot be held out; give a number between 0 and 1.")
    if len(usable) == 1:
        raise InputError(
            f"there is one sequence, {usable[0]}, that gives tubes, and none to hold out; give a second clip."
        )
    train, validation = held_out(len(usable), held, "sequences")
    return [usable[index] for index in train], [usable[index] for index in validation]


def _names(text: str, known: list[str]) -> list[str]:
    """The names in a list with commas between: as names may hold commas, the longest known one that
    comes next, and where none does, what is before the next comma."""
    found, left = [], text.strip(" ,")
    while left:
        fitting = [name for name in known if left.startswith(name) and left[len(name) :].lstrip()[:1] in ("", ",")]
        name = max(fitting, key=len) if fitting else left.partition(",")[0]
        found.append(name.strip() if not fitting else name)
        left = left[len(name) :].strip(" ,")
    return found


def _filtered(scenes: list[np.ndarray]) -> Iterator[Tensor]:
    """The frames of all scenes, in chunks (n, H, W)."""
    chunks = [scene[start : start + CHUNK_FRAMES] for scene in scenes for start in range(0, len(scene), CHUNK_FRAMES)]
    for chunk in watched(chunks, len(chunks), "whitening frames"):
        yield filter_image(torch.from_numpy(chunk.astype(np.float64) / 255)).float()
