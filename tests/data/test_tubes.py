"""Tubes: the right pixels of one scene, one scale from training alone, whole sequences held out."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from itervae.data.decoding import Clip, Clips, read_clips
from itervae.data.drift import drift_source
from itervae.data.pixels import Pixels
from itervae.data.settings import DataSettings
from itervae.data.tubes import Stills, Streams, TubePool, TubeSource
from itervae.data.video import load_video, video_source
from itervae.data.whitening import filter_image
from itervae.errors import InputError


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pool(*scenes, frames=3, side=4):
    pixels = Pixels(torch.cat([scene.flatten() for scene in scenes]), 1.0)
    return TubePool(pixels, [tuple(scene.shape) for scene in scenes], frames, side)


def texture(seed, count=12, contrast=255):
    """A window that moves by a pixel per frame over a random texture."""
    picture = np.kron(np.random.default_rng(seed).integers(0, contrast + 1, (16, 30)), np.ones((4, 4)))
    return np.stack([picture[:48, t : t + 48] for t in range(count)]).astype(np.uint8)


def clips(**frames):
    return Clips([Clip(name, value) for name, value in frames.items()], [], Path("."), 0, "hash")


def test_every_place_of_scenes_of_different_size_is_cut_once():
    scenes = [noise(4, 5, 6), noise(3, 4, 4, seed=1), noise(5, 7, 5, seed=2)]
    tubes = pool(*scenes)
    positions = torch.arange(tubes.positions)
    found = list(zip(*(part.tolist() for part in tubes.locate(positions)), strict=True))
    expected = [
        (i, t, r, c)
        for i, s in enumerate(scenes)
        for t in range(s.shape[0] - 2)
        for r in range(s.shape[1] - 3)
        for c in range(s.shape[2] - 3)
    ]
    assert found == expected
    for (i, t, r, c), tube in zip(expected, tubes.cut(positions), strict=True):
        original = scenes[i][t : t + 3, r : r + 4, c : c + 4].flatten(1)
        torch.testing.assert_close(tube, original - original.mean(1, keepdim=True))


def test_a_batch_depends_only_on_seed_and_index():
    def source(seed=0):
        return TubeSource("video", pool(noise(9, 20, 20)), {"a": pool(noise(9, 20, 20, seed=1))}, seed, 3)

    expected = [source().batch(index, 50) for index in range(4)]
    other = source()
    for index in (3, 0, 2, 2, 1):
        assert torch.equal(other.batch(index, 50), expected[index])
    assert not torch.equal(expected[0], expected[1])
    assert not torch.equal(source(1).batch(0, 50), expected[0])
    assert torch.equal(source(1).validation, source(0).validation)
    assert expected[0].shape == (50, 3, 16)
    assert expected[0].dtype == torch.float32


def test_tubes_without_variance_are_drawn_again_and_counted():
    half = noise(9, 20, 40)
    half[:, :, :20] = 0.3
    source = TubeSource("video", pool(half), {"a": pool(noise(9, 20, 20))}, 0, 3)
    x = source.batch(0, 200)
    assert x.square().mean((1, 2)).min() > 1e-10
    assert source.dropped > 100  # 17 of 37 columns
    with pytest.raises(InputError, match="hardly any"):
        TubeSource("video", pool(torch.ones(9, 20, 20)), {"a": pool(noise(9, 20, 20))}, 0, 3)


def test_one_scale_from_the_training_sequences():
    quiet = (texture(2) // 4 + 90).astype(np.uint8)
    data = clips(a=texture(0), b=texture(1, 20), c=quiet)
    source = video_source(data, 0, frames=4, patch_size=8, held=["c"])
    filtered = [filter_image(torch.from_numpy(f.astype(np.float64) / 255)) for f in (texture(0), texture(1, 20))]
    variance = torch.cat([f.flatten() for f in filtered]).square().mean()
    assert source.describe()["scale"] == pytest.approx(float(variance) ** -0.5, rel=1e-5)
    assert source.pool.pixels.mean_square == pytest.approx(float(variance), rel=1e-6)
    held = filter_image(torch.from_numpy(quiet.astype(np.float64) / 255)) / variance.sqrt()
    held_pool = source.held["c"]
    corners = torch.arange(held_pool.positions)
    _, time, row, column = held_pool.locate(corners)
    first = held.unfold(1, 8, 1).unfold(2, 8, 1)[time, row, column].flatten(1)  # the first frame of each tube
    expected = (first - first.mean(1, keepdim=True)).float()
    torch.testing.assert_close(held_pool.cut(corners)[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert held.var() < 0.5  # a sequence of low contrast keeps it


def test_no_tube_crosses_a_cut_and_short_scenes_are_counted():
    joined = np.concatenate([texture(0), texture(1, 5), texture(2, 9)])
    source = video_source(clips(a=joined, b=texture(3)), 0, frames=8, patch_size=8, held=["b"])
    facts = source.describe()
    assert facts["train_scenes"] == 2
    assert facts["skipped_scenes"] == 1
    assert facts["train_positions"] == (5 + 2) * 41 * 41


def test_scenes_left_out_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ITERVAE_CACHE", str(tmp_path / "cache"))
    np.savez(tmp_path / "a.npz", a=texture(0), b=texture(1), short=texture(2, 3))
    settings = DataSettings(data="video", data_path=tmp_path / "a.npz", frames=8, patch_size=8)
    load_video(settings, 0, "cpu", {})
    assert "1 scene left out, with fewer than 8 frames or smaller than 8x8 pixels\n" in capsys.readouterr().err


def test_a_single_clip_is_divided_into_its_scenes():
    joined = np.concatenate([texture(0), texture(1), texture(2)])
    source = video_source(clips(film=joined), 0, frames=8, patch_size=8, held="film#1")
    assert source.describe()["train_sequences"] == 2
    assert source.describe()["validation_sequences"] == "film#1"
    long = texture(0, 50)
    source = video_source(clips(film=long), 0, frames=8, patch_size=8, held=0.2)  # of one scene, the end
    facts = source.describe()
    assert (facts["train_positions"], source.held_positions) == (33 * 41 * 41, 3 * 41 * 41)
    assert facts["validation_sequences"] == "film#1"
    for count, held, parts in ((12, 0.2, "10 to train on and 2 held out"), (10, 0.8, "2 to train on and 8 held out")):
        with pytest.raises(InputError, match=f"only scene, of film, has {count} frames; {parts}.*give a longer"):
            video_source(clips(film=texture(0, count)), 0, frames=8, patch_size=8, held=held)


def test_a_share_holds_out_the_same_sequences_for_every_seed():
    data = clips(**{f"s{n}": texture(n) for n in range(10)})
    sources = [video_source(data, seed, frames=4, patch_size=8, held=0.3) for seed in (0, 1)]
    names = {source.describe()["validation_sequences"] for source in sources}
    (held,) = names
    assert len(held.split(", ")) == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", "a"),
        ("c, a", "a, c"),
        ("walk, then run", "walk, then run"),
        ("a,walk, then run , c", "a, c, walk, then run"),
        ("walk", "walk"),
        ("walk,c", "c, walk"),
        ("3,", "3"),
        ("a,b", "a,b"),  # the longest
        ("b,a", "a, b"),
    ],
)
def test_names_of_sequences_may_hold_commas(text, names):
    known = ["a", "a,b", "b", "c", "walk", "walk, then run", "3"]
    data = clips(**{name: texture(number) for number, name in enumerate(known)})
    settings = DataSettings(data="video", data_path=Path("x"), val_sequences=text)
    source = video_source(data, 0, frames=4, patch_size=8, held=settings.held_sequences())
    held = source.describe()["validation_sequences"]
    assert held == ", ".join(name for name in known if name in source.held)
    assert sorted(held) == sorted(names)
    with pytest.raises(InputError, match="no sequence is called 'then'; name one of"):
        video_source(data, 0, frames=4, patch_size=8, held=["walk, then, c"])


def test_windows_go_through_a_tube_and_then_through_the_next():
    source = TubeSource(
        "video", pool(noise(9, 20, 20), frames=5), {"a": pool(noise(9, 20, 20, seed=1), frames=5)}, 0, 5
    )
    for index in (4, 0, 1, 2, 3):  # in any order
        frames, begins = source.windows(index, 7, 2)
        tube, part = divmod(index, 3)
        assert torch.equal(frames, source.batch(tube, 7)[:, 2 * part : 2 * part + 2])
        assert begins.tolist() == [part == 0] * 7
    assert [source.windows(index, 7, 2)[0].shape[1] for index in range(4)] == [2, 2, 1, 2]
    with pytest.raises(InputError, match="`window=6` does not fit sequences of 5 frames"):
        source.windows(0, 7, 6)
    with pytest.raises(InputError, match="`data=drift` has none"):
        drift_source(0, frames=4).windows(0, 7, 2, stream=True)


def test_a_stream_follows_its_place_to_the_end_of_the_scene():
    """Every pixel says where it is from: scene, frame, row and column."""
    lengths = (40, 3, 11)
    scenes = []
    for number, length in enumerate(lengths):
        time, row, column = torch.meshgrid(torch.arange(length), torch.arange(9), torch.arange(8), indexing="ij")
        scenes.append((number * 1000 + time * 10.0 + 0 * row * column).float())
    tubes = pool(*scenes, frames=3)
    tubes.window = lambda scene, time, row, column, frames: torch.stack(
        [torch.stack([scene, time + t, row, column], 1) for t in range(frames)], 1
    )
    stream = Streams(tubes, 0, 50, 3)
    walked = [stream.at(index) for index in range(30)]
    again = Streams(tubes, 0, 50, 3)
    for index in (17, 5, 29):  # resumed, or gone back
        assert all(torch.equal(a, b) for a, b in zip(again.at(index), walked[index], strict=True))
    assert walked[0][1].all()
    seen = set()
    for (before, _), (after, begins) in pairwise(walked):
        scene, time, row, column = after[:, 0].unbind(1)
        last = before[:, -1]
        on = ~begins
        assert torch.equal(after[on][:, 0, [0, 2, 3]], last[on][:, [0, 2, 3]])
        assert torch.equal(time[on], last[on, 1] + 1)
        assert (time[begins] < 3).all()
        length = torch.tensor(lengths)
        assert (after[:, -1, 1] < length[scene]).all()
        assert (last[begins, 1] + 3 >= length[last[begins, 0]]).all()  # none is left before its end
        seen |= set(scene[begins].tolist())
    assert seen == {0, 1, 2}
    moved = video_source(clips(a=texture(0, 30), b=texture(1)), 0, frames=6, patch_size=8, held=["b"])
    first, second = (moved.windows(index, 20, 5, stream=True) for index in (0, 1))
    assert first[0].shape == (20, 5, 64)
    # the texture moves by a pixel a frame: the same column of it, five frames later
    still = (first[0].unflatten(2, (8, 8))[:, 0, :, 5:], second[0].unflatten(2, (8, 8))[:, 0, :, :3])
    offset = [part - part.mean((1, 2), keepdim=True) for part in still]
    correlation = torch.nn.functional.cosine_similarity(offset[0].flatten(1), offset[1].flatten(1))
    assert correlation.min() > 0.9


def test_constant_frames_stay_zero():
    faded = texture(0)
    faded[5] = 0
    source = video_source(clips(a=faded, b=texture(1)), 0, frames=4, patch_size=8, held=["b"])
    pixels = source.pool.pixels.values.reshape(12, 48, 48)
    assert pixels[5].abs().max() < 1e-6
    assert torch.isfinite(pixels).all()


def test_what_cannot_be_is_refused():
    data = clips(a=texture(0), b=texture(1), short=texture(2, 3))
    for given, message in (
        ({"frames": 40}, "no scene gives a tube of 40 frames .* longest has 12 frames of 48x48"),
        ({"patch_size": 64}, "longest has 12 frames of 48x48"),
        ({"held": ["x"]}, "no sequence is called 'x'; name one of a, b, short"),
        ({"held": ["short"]}, "'short' has no tube"),
        ({"held": ["a", "b"]}, "leave at least one"),
        ({"held": []}, "hold out at least one"),
        ({"held": 1.5}, "between 0 and 1"),
        ({"frames": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            video_source(data, 0, **{"frames": 8, "patch_size": 8, "held": ["b"], **given})
    flat = np.full((12, 48, 48), 9, np.uint8)
    with pytest.raises(InputError, match="are constant"):
        video_source(clips(a=flat, b=texture(1)), 0, frames=8, patch_size=8, held=["b"])


def test_real_sequences(real_data, tmp_path):
    data = read_clips(real_data / "davis_gray.npz", cache=tmp_path)
    source = video_source(data, 0, held=["cows", "dog", "scooter-black"])
    facts = source.describe()
    assert (facts["train_scenes"], facts["validation_scenes"], facts["skipped_scenes"]) == (11, 3, 0)
    x = source.batch(0, 500)
    assert x.shape == (500, 16, 256)
    assert 0.7 < x.square().mean() < 1.3
    each = source.sequences(4)
    assert [(name, tuple(tubes.shape)) for name, tubes in each.items()] == [
        (name, (4, 16, 256)) for name in ("cows", "dog", "scooter-black")
    ]
    assert torch.equal(source.validation[:3, 0], torch.stack([tubes[0, 0] for tubes in source.sequences(167).values()]))
    assert torch.equal(Stills(source).validation, source.validation[:, 0])


def test_whole_frames_are_windows_in_time_evenly_spaced():
    scenes = {"a": noise(9, 6, 8), "b": noise(5, 6, 8, seed=1)}
    source = TubeSource("video", None, {name: pool(scene) for name, scene in scenes.items()}, 0, 3)
    for count, starts in {1: {"a": [0], "b": [0]}, 3: {"a": [0, 3, 6], "b": [0, 1, 2]}}.items():
        found = source.whole_sequences(count)
        for name, scene in scenes.items():
            expected = torch.stack([scene[start : start + 3] for start in starts[name]])
            torch.testing.assert_close(found[name], expected - expected.mean((2, 3), keepdim=True))
    with pytest.raises(InputError, match="b has 3 windows of 3 frames, not 4; ask for fewer"):
        source.whole_sequences(4)
    several = {"a": pool(noise(9, 6, 8), noise(9, 8, 6))}, {"a": pool(noise(9, 6, 8)), "b": pool(noise(9, 8, 6))}
    for held in several:
        with pytest.raises(InputError, match="are of 6x8 and 8x6 pixels; hold out those of one size"):
            TubeSource("video", None, held, 0, 3).whole_sequences(1)
