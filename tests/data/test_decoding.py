"""Decoding: the right frames, once; whole clips or none; what cannot be read is named."""

import os
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from itervae.data import decoding
from itervae.data.cache import cache_folder
from itervae.data.decoding import read_clips
from itervae.errors import InputError


def ramp(count=12, height=48, width=64):
    """Frames of a horizontal ramp that becomes brighter by 8 grey levels per frame."""
    base = np.linspace(0, 140, width).round()
    return np.stack([np.tile(base + 8 * t, (height, 1)) for t in range(count)]).astype(np.uint8)


def write_video(file, frames, codec="mpeg4", pixels="yuv420p", **options):
    with av.open(str(file), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixels)))
        container.mux(stream.encode(None))


def written(folder):
    return sorted(file.name for file in folder.rglob("*") if file.is_file() and file.suffix != ".peak")


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        ("mp4", "mpeg4", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mkv", "mpeg4", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("gif", "gif", "gray"),
    ],
)
def test_a_video_gives_its_frames_in_grey(tmp_path, suffix, codec, pixels):
    write_video(tmp_path / f"a.{suffix}", ramp(), codec, pixels)
    (clip,) = read_clips(tmp_path / f"a.{suffix}", cache=tmp_path / "cache").clips
    assert clip.name == f"a.{suffix}"
    assert clip.note == ""
    assert clip.frames.dtype == np.uint8
    assert isinstance(clip.frames, np.memmap)
    assert clip.frames.shape == (12, 48, 64)
    assert np.abs(clip.frames.astype(float) - ramp()).mean() < 3  # the codec loses some


def test_the_shorter_side_is_reduced_and_never_enlarged(tmp_path):
    np.savez(tmp_path / "a.npz", tall=np.full((6, 60, 40), 77, np.uint8), wide=np.full((6, 30, 81), 5, np.uint8))
    tall, wide = read_clips(tmp_path / "a.npz", short_side=20, cache=tmp_path / "cache").clips
    assert tall.frames.shape == (6, 30, 20)
    assert wide.frames.shape == (6, 20, 54)
    assert (tall.frames == 77).all()
    assert read_clips(tmp_path / "a.npz", short_side=50, cache=tmp_path / "cache").clips[0].frames.shape == (6, 60, 40)


def test_stacks_of_floats_and_of_bytes_give_the_same_frames(tmp_path):
    frames = ramp()
    np.save(tmp_path / "b.npy", frames)
    np.save(tmp_path / "f.npy", frames / 255)
    for name in ("b", "f"):
        (clip,) = read_clips(tmp_path / f"{name}.npy", cache=tmp_path / "cache").clips
        assert np.array_equal(clip.frames, frames)


def test_folders_of_frames_are_read_in_the_order_of_their_numbers(tmp_path):
    frames = ramp()
    for folder in ("data/walk", "data/deep/run"):
        (tmp_path / folder).mkdir(parents=True)
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / folder / f"frame{number}.png")  # frame10 sorts before frame2 as text
    clips = read_clips(tmp_path / "data", cache=tmp_path / "cache").clips
    assert [clip.name for clip in clips] == ["deep/run", "walk"]
    assert all(np.array_equal(clip.frames, frames) for clip in clips)


def test_nested_videos_are_found_and_pictures_beside_them_are_no_frames(tmp_path):
    (tmp_path / "data/deep").mkdir(parents=True)
    write_video(tmp_path / "data/deep/a.mp4", ramp())
    write_video(tmp_path / "data/b.AVI", ramp())
    Image.fromarray(ramp()[0]).save(tmp_path / "data/poster.jpg")
    clips = read_clips(tmp_path / "data", cache=tmp_path / "cache").clips
    assert [clip.name for clip in clips] == ["b.AVI", "deep/a.mp4"]


def test_decoding_happens_once_and_follows_content_and_settings(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", ramp())
    first = read_clips(tmp_path / "a.npy", cache=tmp_path / "cache")
    decoded = []
    decode = decoding._decode
    monkeypatch.setattr(decoding, "_decode", lambda *given: (decoded.append(given[0].name), decode(*given)))
    os.utime(tmp_path / "a.npy", (1, 1))
    os.rename(tmp_path / "a.npy", tmp_path / "moved.npy")
    again = read_clips(tmp_path / "moved.npy", cache=tmp_path / "cache")
    assert decoded == []
    assert again.content == first.content
    assert 0 < again.size - (128 + 12 * 48 * 64) < 500
    assert again.size == first.size
    changed = ramp()
    changed[3, 2, 1] += 1
    np.save(tmp_path / "moved.npy", changed)
    os.utime(tmp_path / "moved.npy", (1, 1))  # as large and as old as before, yet another file
    assert read_clips(tmp_path / "moved.npy", cache=tmp_path / "cache").clips[0].frames[3, 2, 1] == changed[3, 2, 1]
    read_clips(tmp_path / "moved.npy", short_side=20, cache=tmp_path / "cache")
    assert len(decoded) == 2


@pytest.mark.slow
def test_a_killed_decode_leaves_no_clip_and_the_next_one_works(tmp_path):
    import subprocess
    import sys

    write_video(tmp_path / "a.mp4", ramp(40))
    code = (
        "import os, sys, pathlib\n"
        "from itervae.data import decoding\n"
        "reduced, count = decoding.reduced, []\n"
        "def dying(*given):\n"
        "    count.append(1)\n"
        "    if len(count) == 20: os.kill(os.getpid(), 9)\n"
        "    return reduced(*given)\n"
        "decoding.reduced = dying\n"
        "decoding.read_clips(pathlib.Path(sys.argv[1]), cache=pathlib.Path(sys.argv[2]))\n"
    )
    cache = tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.mp4", cache], capture_output=True)
    assert done.returncode == -9
    (left,) = cache.rglob("*.*")
    assert left.suffix == ".tmp"
    (clip,) = read_clips(tmp_path / "a.mp4", cache=cache).clips
    assert len(clip.frames) == 40
    assert left.exists()  # it could belong to a process that is still at work
    os.utime(left, (time.time() - 4000,) * 2)
    read_clips(tmp_path / "a.mp4", cache=cache)
    assert [name.rpartition(".")[2] for name in written(cache)] == ["npy"]


def test_a_process_that_decodes_the_same_file_meanwhile_does_no_harm(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", ramp())
    reduced, inner = decoding.reduced, []

    def interrupted(*given):
        if not inner:
            inner.append(None)
            inner.append(read_clips(tmp_path / "a.npy", cache=tmp_path / "cache"))
        return reduced(*given)

    monkeypatch.setattr(decoding, "reduced", interrupted)
    outer = read_clips(tmp_path / "a.npy", cache=tmp_path / "cache")
    assert np.array_equal(outer.clips[0].frames, inner[1].clips[0].frames)
    assert len(written(tmp_path / "cache")) == 1


def test_a_truncated_video_keeps_what_decodes_and_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64)).astype(np.uint8)
    write_video(tmp_path / "whole.mp4", noise, movflags="faststart")  # the index comes first, so the rest can be cut
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    for _ in range(2):  # decoded, and from the cache
        (clip,) = read_clips(tmp_path / "half.mp4", cache=tmp_path / "cache").clips
        assert 10 < len(clip.frames) < 30
        assert f"only {len(clip.frames)} of 40 frames" in clip.note
    whole = read_clips(tmp_path / "whole.mp4", cache=tmp_path / "cache").clips[0].frames
    assert np.array_equal(clip.frames[:10], whole[:10])
    (tmp_path / "stub.mp4").write_bytes(content[: len(content) // 20])
    with pytest.raises(InputError, match=r"stub.mp4 \(only [0-4] of 40 frames"):
        read_clips(tmp_path / "stub.mp4", cache=tmp_path / "cache")


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    np.savez(tmp_path / "a.npz", good=ramp(), nan=np.full((9, 20, 20), np.nan), empty=np.zeros((0, 20, 20)))
    stacks = read_clips(tmp_path / "a.npz", cache=tmp_path / "cache")
    assert [clip.name for clip in stacks.clips] == ["good"]
    assert dict(stacks.skipped)["nan"].startswith("its frame 0 holds nan at row 0, column 0")
    assert "(0, 20, 20)" in dict(stacks.skipped)["empty"]

    write_video(data / "good.mp4", ramp())
    (data / "bad.mp4").write_bytes(b"no video at all" * 99)
    (data / "blank.mp4").write_bytes(b"")
    (data / "odd").mkdir()
    for number, side in enumerate((30, 30, 40)):
        Image.fromarray(np.zeros((side, 30), np.uint8)).save(data / "odd" / f"{number}.png")
    (data / "torn").mkdir()
    (data / "torn/0.png").write_bytes(b"\x89PNG\r\n")
    told = []
    clips = read_clips(data, cache=tmp_path / "cache", advance=lambda *given: told.append(given))
    assert [clip.name for clip in clips.clips] == ["good.mp4"]
    reasons = dict(clips.skipped)
    assert reasons["bad.mp4"].startswith(
        "only 0 of its frames can be decoded (Invalid data found when processing input)"
    )
    assert reasons["blank.mp4"] == "the file is empty"
    assert "frame 2 has 40x30 pixels" in reasons["odd"]
    assert "0.png cannot be read" in reasons["torn"]
    assert told == [
        *((n, 5, name) for n, name in enumerate(("bad.mp4", "blank.mp4", "good.mp4", "odd", "torn"))),
        (5, 5, ""),
    ]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_nothing_readable_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/readme.txt").write_text("no video")
    (tmp_path / "bad.mp4").write_bytes(b"")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    np.save(tmp_path / "loud.npy", np.full((3, 9, 9), 2.0))
    for name, message in (
        ("none", "holds no video; put files"),
        ("absent", "does not exist"),
        ("none/readme.txt", "suffix '.txt'"),
        ("bad.mp4", "no video of .* can be used"),
        ("bad.npz", "cannot be read"),
        ("flat.npy", r"shape is \(3, 4\)"),
        ("loud.npy", "floats from 2 to 2"),
    ):
        with pytest.raises(InputError, match=message):
            read_clips(tmp_path / name, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="at least 8"):
        read_clips(tmp_path / "loud.npy", short_side=4, cache=tmp_path / "cache")


def test_a_damaged_clip_of_the_cache_is_decoded_again(tmp_path):
    np.save(tmp_path / "a.npy", ramp())
    expected = np.array(read_clips(tmp_path / "a.npy", cache=tmp_path / "cache").clips[0].frames)
    (file,) = (tmp_path / "cache/video").glob("*.npy")
    for content in (file.read_bytes()[:20_000], file.read_bytes()[:-3], b""):
        file.unlink()  # it is mapped
        file.write_bytes(content)
        clips = read_clips(tmp_path / "a.npy", cache=tmp_path / "cache")
        assert np.array_equal(clips.clips[0].frames, expected)


def test_a_full_disk_is_not_taken_for_a_damaged_video(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", ramp())

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoding, "_fill_header", full)
    with pytest.raises(InputError, match=r"No space left.*free some space"):
        read_clips(tmp_path / "a.npy", cache=tmp_path / "cache")
    assert written(tmp_path / "cache") == []
    with pytest.raises(InputError, match="could not write to the cache"):
        read_clips(tmp_path / "a.npy", cache=tmp_path / "a.npy")  # a file, where a folder must be


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("ITERVAE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/itervae"
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def test_the_real_clips_decode(real_data, tmp_path):
    clips = read_clips(real_data / "clips", cache=tmp_path)
    assert clips.skipped == []
    assert {clip.name: len(clip.frames) for clip in clips.clips} == {
        "bikes.mp4": 250,
        "cockatoo.mp4": 280,
        "realshort.mp4": 36,
        "stream-of-water.mp4": 90,
    }
    assert all(clip.frames.shape[1] == 160 and not clip.note for clip in clips.clips)
