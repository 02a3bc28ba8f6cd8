"""Scene cuts: found where scenes were joined, and nowhere else."""

import numpy as np
import pytest

from itervae.data.decoding import read_clips
from itervae.data.scenes import scene_cuts, split_scenes
from itervae.errors import InputError


def window(seed, places, side=64):
    """A window at these places of a coarse random texture."""
    texture = np.kron(np.random.default_rng(seed).integers(0, 256, (16, 40)), np.ones((16, 16)))
    return np.stack([texture[:side, place : place + side] for place in places]).astype(np.uint8)


def scene(seed, count, speed=1):
    return window(seed, speed * np.arange(count))


def test_cuts_lie_where_scenes_were_joined():
    parts = [scene(seed, count) for seed, count in enumerate((12, 9, 20))]
    frames = np.concatenate(parts)
    assert scene_cuts(frames) == [12, 21]
    scenes = split_scenes(frames)
    assert all(np.array_equal(found, part) for found, part in zip(scenes, parts, strict=True))


def test_neither_gain_nor_size_matters():
    frames = np.concatenate([scene(0, 12), scene(1, 12)])
    assert scene_cuts(frames // 4) == [12]
    assert scene_cuts(frames.repeat(3, 1).repeat(3, 2)) == [12]
    assert scene_cuts(frames[:, ::-1, ::-1]) == [12]


def test_repeated_frames_hide_no_cut_and_make_none():
    frames = np.concatenate([scene(0, 12), scene(1, 12)]).repeat(2, 0)
    assert scene_cuts(frames) == [24]


@pytest.mark.parametrize("speed", [0, 1, 5, 12])
def test_motion_is_no_cut(speed):
    assert scene_cuts(scene(0, 24, speed)) == []


def test_a_flash_and_a_burst_of_motion_are_no_cuts():
    flash = scene(0, 24)
    flash[10] = 255
    assert scene_cuts(flash) == []
    burst = [*range(10), 25, 45, 65, 85, *range(86, 98)]
    assert scene_cuts(window(0, burst)) == []


def test_clips_without_change_or_of_one_frame_have_no_cut():
    assert scene_cuts(np.full((20, 30, 30), 9, np.uint8)) == []
    assert scene_cuts(scene(0, 1)) == []
    assert len(split_scenes(scene(0, 1))) == 1


def test_other_arrays_are_refused():
    for frames in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 6)), np.zeros((0, 5, 6), np.uint8)):
        with pytest.raises(InputError, match=r"\(T, H, W\) uint8"):
            scene_cuts(frames)


@pytest.mark.slow
def test_real_clips_have_their_cuts_and_no_others(real_data, tmp_path):
    clips = (
        read_clips(real_data / "clips", cache=tmp_path).clips
        + read_clips(real_data / "davis_gray.npz", cache=tmp_path).clips
    )
    found = {clip.name: scene_cuts(clip.frames) for clip in clips}
    assert len(found) == 18
    assert {name: cuts for name, cuts in found.items() if cuts} == {"bikes.mp4": [30, 76, 137, 187, 242]}


def test_real_sequences_joined_at_random_are_told_apart(real_data, tmp_path):
    clips = read_clips(real_data / "davis_gray.npz", cache=tmp_path).clips
    for before in clips:
        for after in clips:
            if before is not after:
                joined = np.concatenate([before.frames[-20:], after.frames[:20]])
                assert scene_cuts(joined) == [20], (before.name, after.name)
