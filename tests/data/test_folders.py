"""Folders: all files below, through links and once, and a word on those that are not read."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image
from test_decoding import ramp, write_video

from itervae.data.decoding import read_clips
from itervae.data.folders import files_below
from itervae.data.images import read_images
from itervae.data.origins import VIDEO_SUFFIXES
from itervae.errors import InputError


def save_pictures(folder, count=2):
    folder.mkdir(parents=True)
    for number in range(count):
        values = np.random.default_rng(abs(hash((folder.name, number)))).integers(0, 256, (20, 24), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")


def names(folder):
    return [file.relative_to(folder).as_posix() for file in files_below(folder)]


def test_links_to_folders_are_followed(tmp_path):
    save_pictures(tmp_path / "data/here")
    save_pictures(tmp_path / "elsewhere/one")
    save_pictures(tmp_path / "elsewhere/two")
    for name in ("one", "two"):
        (tmp_path / f"data/{name}").symlink_to(tmp_path / f"elsewhere/{name}")
    assert names(tmp_path / "data") == [f"{folder}/{n}.png" for folder in ("here", "one", "two") for n in (0, 1)]
    assert len(read_images(tmp_path / "data", None, 16)) == 6
    clips = read_clips(tmp_path / "data", cache=tmp_path / "cache").clips
    assert [(clip.name, len(clip.frames)) for clip in clips] == [("here", 2), ("one", 2), ("two", 2)]


def test_no_folder_is_read_twice_whatever_leads_to_it(tmp_path):
    save_pictures(tmp_path / "top/data/deep/er")
    (tmp_path / "top/data/again").symlink_to(tmp_path / "top/data/deep")
    (tmp_path / "top/data/deep/er/up").symlink_to(tmp_path / "top/data")  # cycles
    (tmp_path / "top/data/self").symlink_to(tmp_path / "top/data/self2")
    (tmp_path / "top/data/self2").symlink_to(tmp_path / "top/data/self")
    (tmp_path / "top/data/above").symlink_to(tmp_path / "top")
    (tmp_path / "top/beside.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "top/data")
    for folder in (tmp_path / "top/data", tmp_path / "link"):
        assert [name for name in names(folder) if "self" not in name] == [
            "above/beside.txt",
            "deep/er/0.png",
            "deep/er/1.png",
        ]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    save_pictures(tmp_path / "data/.thumbnails")
    save_pictures(tmp_path / "data/a")
    (tmp_path / "data/a/.DS_Store").write_text("")
    assert names(tmp_path / "data") == ["a/0.png", "a/1.png"]
    assert names(tmp_path / "data/.thumbnails") == ["0.png", "1.png"]  # asked for by name


def test_what_is_no_picture_is_counted_and_said(tmp_path):
    save_pictures(tmp_path / "data")
    with warnings.catch_warnings(action="error"):
        read_images(tmp_path / "data", None, 16)
    (tmp_path / "data/notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"^left out: 1 file that is no picture \(\.txt\)$"):
        read_images(tmp_path / "data", None, 16)
    for name in ("a.TXT", "Thumbs.db", "README", "x.npy"):
        (tmp_path / "data" / name).write_text("")
    with pytest.warns(UserWarning, match=r"^left out: 5 files that are no pictures \(\.db, \.npy, \.txt, no suffix\)$"):
        assert len(read_images(tmp_path / "data", None, 16)) == 2


def test_a_link_that_leads_nowhere_is_a_picture_that_cannot_be_read(tmp_path):
    save_pictures(tmp_path / "data")
    (tmp_path / "data/gone.png").symlink_to(tmp_path / "unmounted.png")
    with pytest.warns(UserWarning, match=r"1 of 3 pictures skipped: .*gone\.png"):
        read_images(tmp_path / "data", None, 16)


def test_a_folder_that_may_not_be_opened_is_said(tmp_path, monkeypatch):
    for name in ("a", "closed"):
        save_pictures(tmp_path / "data" / name)
    scandir = os.scandir

    def refusing(folder):
        if folder.name == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    closed = "closed"
    with pytest.warns(UserWarning, match="left out: 1 file that is no picture"):
        assert len(read_images(tmp_path / "data", None, 16)) == 2
    closed = "data"
    with pytest.raises(InputError, match=r"data cannot be opened \(.*Permission denied\); allow reading it"):
        read_images(tmp_path / "data", None, 16)


def test_what_is_no_video_is_counted_and_said(tmp_path):
    data = tmp_path / "data"
    save_pictures(data / "frames", 6)
    (data / "films").mkdir()
    for name in ("a.mp4", "b.mov", "c.m4v", "d.mkv"):
        write_video(data / "films" / name, ramp())
    for name in ("poster.jpg", "cover.tif"):
        Image.fromarray(ramp()[0]).save(data / "films" / name)
    (data / "films/a.srt").write_text("")
    (data / "notes.txt").write_text("")
    clips = read_clips(data, cache=tmp_path / "cache")
    assert [clip.name for clip in clips.clips] == ["films/a.mp4", "films/b.mov", "films/c.m4v", "films/d.mkv", "frames"]
    assert clips.remarks == [
        "left out: 2 pictures beside a video, not taken for frames (.jpg, .tif)",
        "left out: 2 files that are neither video nor frames (.srt, .txt)",
    ]


def test_common_containers_are_video():
    common = "mov, m4v, mpg, mpeg, wmv, m2ts, ogv, flv, mts, 3gp, mp4, avi, webm, mkv, gif"
    assert {f".{name}" for name in common.split(", ")} == set(VIDEO_SUFFIXES)


@pytest.mark.parametrize("suffix", ["mov", "m4v", "mpg", "mpeg", "wmv", "m2ts", "flv", "mts", "3gp"])
def test_common_containers_are_read(tmp_path, suffix):
    codec = {"mpg": "mpeg1video", "mpeg": "mpeg2video", "wmv": "wmv2", "m2ts": "mpeg2video", "flv": "flv"}
    write_video(tmp_path / f"a.{suffix}", ramp(), codec.get(suffix, "mpeg2video" if suffix == "mts" else "mpeg4"))
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    (clip,) = clips.clips
    assert (clip.frames.shape, clip.note, clips.remarks) == ((12, 48, 64), "", [])
    assert np.abs(clip.frames.astype(float) - ramp()).mean() < 3


def test_frames_of_16_bits_are_read_as_they_look(tmp_path):
    """A ramp of 16 bits; cut to 8 it would be white nearly everywhere."""
    (tmp_path / "data").mkdir()
    wide = ramp().astype(np.uint16) * 257
    for number, frame in enumerate(wide):
        Image.fromarray(frame).save(tmp_path / f"data/{number}.png")
    (clip,) = read_clips(tmp_path / "data", cache=tmp_path / "cache", white=65535).clips
    assert np.array_equal(clip.frames, ramp())
    np.save(tmp_path / "stack.npy", wide)
    (clip,) = read_clips(tmp_path / "stack.npy", cache=tmp_path / "cache", white=65535).clips
    assert np.array_equal(clip.frames, ramp())


def test_a_folder_that_does_not_exist_or_is_empty_says_what_to_do(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes.txt").write_text("")
    with pytest.raises(InputError, match="holds no picture; put files of one of"):
        read_images(tmp_path / "data", None, 16)
    with pytest.raises(InputError, match="holds no video; put files"):
        read_clips(tmp_path / "data", cache=tmp_path / "cache")
