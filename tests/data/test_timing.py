"""Videos as they are to be seen: upright, whole or said not to be, and at equal steps of time."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from test_decoding import ramp, write_video

from itervae.data.decoding import read_clips
from itervae.data.timing import Evenly, read_timing


def noise(count=50, height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (count, height, width)).astype(np.uint8)


def steps(count=40, height=48, width=64):
    """Frames that say their number: grey level 6 t."""
    return np.full((count, height, width), 6, np.uint8) * np.arange(count, dtype=np.uint8)[:, None, None]


def write_timed(file, frames, times, codec, rate):
    """A video whose frame i is shown at times[i] / rate seconds."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *frames.shape[1:], "yuv420p", 4_000_000
        stream.codec_context.time_base = Fraction(1, rate)
        for frame, time in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")
            picture.pts, picture.time_base = int(time), Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


CONTAINERS = [
    ("mkv", "mpeg4", {}),
    ("mkv", "libx264", {}),
    ("webm", "libvpx", {}),
    ("webm", "libvpx-vp9", {}),
    ("mp4", "mpeg4", {"movflags": "faststart"}),  # the index comes first, so the rest can be cut
    ("mp4", "libx264", {"movflags": "faststart"}),
    ("mov", "mpeg4", {"movflags": "faststart"}),
    ("avi", "mpeg4", {}),
    ("avi", "libx264", {}),
    ("flv", "flv", {}),
    ("wmv", "wmv2", {}),
    ("mpg", "mpeg1video", {}),
]


@pytest.mark.parametrize(("suffix", "codec", "options"), CONTAINERS)
def test_a_video_that_is_cut_says_so_and_a_whole_one_does_not(tmp_path, suffix, codec, options):
    write_video(tmp_path / f"whole.{suffix}", noise(), codec, **options)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) * 6 // 10])
    for _ in range(2):  # decoded, and from the cache
        clips = read_clips(tmp_path, cache=tmp_path / ".cache")
        cut, whole = clips.clips
        assert (whole.note, len(whole.frames)) == ("", 50)
        assert 20 < len(cut.frames) < 35
        assert cut.note.startswith(f"only {len(cut.frames)} of ")
        assert re.search(r"can be decoded( \(.*\))?; it may be truncated$", cut.note)  # with the word of some decoders
        assert clips.remarks == []
    if suffix in ("mkv", "webm", "flv"):  # they count no frames
        assert f"{len(cut.frames) / 25:.1f} of 2.0 seconds" in cut.note


def test_sound_that_goes_on_does_not_make_a_video_truncated(tmp_path):
    for name, seconds in (("long", 6), ("short", 1)):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            sound = container.add_stream("pcm_s16le", rate=8000)
            for frame in noise():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
            container.mux(stream.encode(None))
            for part in range(seconds):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
                samples.rate, samples.pts = 8000, 8000 * part
                container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    assert [(clip.note, len(clip.frames)) for clip in read_clips(tmp_path, cache=tmp_path / ".cache").clips] == [
        ("", 50),
        ("", 50),
    ]


def test_a_video_that_was_trimmed_is_whole(tmp_path):
    """As telephones do it: the file holds 50 frames, and a list of edits says to show the last
    30."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1", "movflags": "faststart"}
    with av.open(str(tmp_path / "a.mp4"), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(frame, format="gray") for frame in noise()]
        for packet in [packet for frame in [*frames, None] for packet in stream.encode(frame)]:
            packet.pts, packet.dts = packet.pts - 20, packet.dts - 20
            container.mux(packet)
    (clip,) = read_clips(tmp_path, cache=tmp_path / ".cache").clips
    assert (len(clip.frames), clip.note) == (30, "")


def test_a_video_with_dropped_frames_is_whole_and_each_step_has_its_nearest_frame(tmp_path):
    times = [*range(10), *range(13, 25), *range(26, 44)]  # 10 to 12 and 25 are missing
    write_timed(tmp_path / "a.avi", steps(), times, "mpeg4", 25)
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    (clip,) = clips.clips
    assert clip.note == ""
    shown = np.rint(clip.frames.mean((1, 2)) / 6)
    # the middle of a gap belongs to what comes after it
    expected = [*range(10), 9, *[10] * 2, *range(10, 22), 22, *range(22, 40)]
    assert len(shown) == 44
    assert np.abs(shown - expected).max() <= 1
    assert abs(shown - expected).mean() < 0.1
    assert clips.remarks == [
        "the frame times of 1 of 1 clips vary; brought to equal steps, each with the frame nearest in time: a.avi to "
        "25 a second (4 frames repeated, 0 left out)"
    ]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "mpeg4"), ("webm", "libvpx"), ("mp4", "libx264")])
def test_frame_times_that_vary_become_equal_steps(tmp_path, suffix, codec):
    """A screen: some frames are held for long, some come at twice the usual rate."""
    gaps = [4, 4, 4, 2, 2, 2, 2, 4, 12, 4, 4, 4, 4, 4, 20, 4, 4, 4, 4, 4]
    times = np.concatenate([[0], np.cumsum(gaps)])
    write_timed(tmp_path / f"a.{suffix}", steps(21), times, codec, 100)
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    shown = np.rint(clips.clips[0].frames.mean((1, 2)) / 6)
    (said,) = clips.remarks
    assert f"a.{suffix} to 25 a second" in said or f"a.{suffix} to 25.5 a second" in said
    grid = np.arange(len(shown)) * times[-1] / (len(shown) - 1)
    assert len(shown) in (25, 24)
    away = np.abs(times[shown.astype(int)] - grid)  # of the frame shown at each step
    nearest = np.abs(times[None] - grid[:, None]).min(1)
    np.testing.assert_allclose(away, nearest, atol=1e-6)


def test_times_rounded_to_milliseconds_are_equal_steps(tmp_path):
    """30 a second in an .mkv: 33, 34, 33 ms; and hundredths of a second in a .gif."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in ramp(250):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    assert len(clips.clips[0].frames) == 250
    assert clips.remarks == []
    assert read_timing(tmp_path / "a.mkv").step == pytest.approx(1 / 30, rel=1e-3)


def test_animated_pictures_hold_their_frames_as_long_as_they_say(tmp_path):
    frames = [Image.fromarray(frame) for frame in steps(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 120, 40, 40])
    (clip,) = read_clips(tmp_path, cache=tmp_path / ".cache").clips
    assert [int(frame.mean() / 6) for frame in clip.frames] == [0, 1, 1, 2, 2, 3]


def test_times_that_jump_are_not_believed(tmp_path):
    write_timed(tmp_path / "a.mkv", steps(20), [*range(10), *range(100_000, 100_010)], "mpeg4", 25)
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    assert len(clips.clips[0].frames) == 20
    assert clips.remarks == [
        "the frame times jump too far to be believed, and frames are taken as they follow: a.mkv by 4e+03 s"
    ]


@pytest.mark.parametrize("step", [1.0, 0.04, 1 / 30])
def test_each_step_has_the_frame_nearest_in_time(step):
    generator = np.random.default_rng(1)
    for _ in range(50):
        times = np.cumsum(generator.exponential(step, 40)) + generator.random()
        evenly = Evenly()
        shown = list(evenly(((time, number) for number, time in enumerate(times)), step))
        grid = times[0] + step * np.arange(len(shown))
        np.testing.assert_allclose(np.abs(times[shown] - grid), np.abs(times[:, None] - grid).min(0), atol=1e-9)
        assert abs(grid[-1] - times[-1]) <= step / 2 + 1e-9
        assert evenly.repeated == len(shown) - len(set(shown))
        assert evenly.dropped == 40 - len(set(shown))
    assert list(Evenly()(iter([(None, "a"), (None, "b"), (None, "c")]), step)) == ["a", "b", "c"]
    exchanged = iter([(0.0, "a"), (2 * step, "b"), (step, "c"), (3 * step, "d")])  # as an .avi has them
    assert list(Evenly()(exchanged, step)) == ["a", "b", "c", "d"]
    assert list(Evenly()(iter([(7.0, "a")]), step)) == ["a"]
    assert list(Evenly()(iter([(3.0, "a"), (1.0, "b")]), None)) == ["a", "b"]
    assert list(Evenly()(iter(()), step)) == []


MATRICES = {  # of the header of a track, as 16.16 numbers: what a viewer does, anticlockwise
    0: (1, 0, 0, 1),
    90: (0, -1, 1, 0),
    180: (-1, 0, 0, -1),
    270: (0, 1, -1, 0),
}


@pytest.mark.parametrize("angle", MATRICES)
def test_videos_are_turned_upright(tmp_path, angle):
    write_video(tmp_path / "flat.mp4", ramp(), movflags="faststart")
    content = (tmp_path / "flat.mp4").read_bytes()

    def matrix(a, b, c, d):
        numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        return b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)

    place = content.index(matrix(1, 0, 0, 1), content.index(b"tkhd"))
    turned = content[:place] + matrix(*MATRICES[angle]) + content[place + 36 :]
    (tmp_path / "phone.mp4").write_bytes(turned)
    flat, phone = read_clips(tmp_path, cache=tmp_path / ".cache").clips
    assert np.array_equal(phone.frames, np.rot90(flat.frames, angle // 90, (1, 2)))


def test_transparent_video_is_laid_over_white_as_pictures_are(tmp_path):
    grey = np.random.default_rng(0).integers(0, 2, (20, 24)).astype(np.uint8) * 100 + 50
    hidden = np.random.default_rng(1).random((20, 24)) < 0.3
    pictures = [Image.fromarray(np.where(hidden, 0, np.roll(grey, t, 1)).astype(np.uint8)) for t in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], transparency=0, disposal=2)
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    expected = [np.where(hidden, 255, np.roll(grey, t, 1)) for t in range(3)]
    assert np.array_equal(clips.clips[0].frames, expected)
    assert clips.remarks == ["1 of 1 clips are transparent in part and were laid over white"]


def test_colour_of_video_is_said(tmp_path):
    write_video(tmp_path / "grey.mp4", ramp())
    with av.open(str(tmp_path / "red.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in ramp():
            colour = np.dstack([frame, frame // 4, frame // 4])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colour, format="rgb24")))
        container.mux(stream.encode(None))
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    assert clips.remarks == ["1 of 2 clips have colour, which becomes grey: the luma of Rec. 601"]
