"""One reader: pictures that look the same give the same data, as stills and as frames, and what is
decided is said."""

import io
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from itervae.data import DataSettings, load_source
from itervae.data.decoding import read_clips
from itervae.data.images import images_from_array, read_images
from itervae.data.pictures import pages, read_picture, to_grey, white_level


def noise(height=20, width=24, seed=0, channels=(), top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, (height, width, *channels)).astype(dtype)


def still(path):
    with warnings.catch_warnings(action="ignore"):
        return read_images(path, None, 16).grey(0)


def frame(path, cache):
    """The same picture as the only one of a folder of frames, as grey in [0, 1]."""
    folder = path.parent / f"{path.name}.frames"
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    return torch.from_numpy(read_clips(folder, cache=cache).clips[0].frames[0] / 255)


def said_of(path, **given):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = read_images(path, None, 16, **given)
    return images, [str(one.message) for one in caught]


def spectrum(count=8, top=4021):
    """Deep pictures with greys all over the range of 12 bits, most of them dark as of linear
    sensors."""
    values = np.random.default_rng(5).random((count, 40, 48)) ** 4
    return np.rint(values / values.max() * top).astype(np.uint16)


ORIENTED = {  # what a viewer does, from the EXIF standard: the stored picture to the upright one
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


DEPTHS = [("png", np.uint8), ("png", np.uint16), ("tif", np.uint8), ("tif", np.uint16), ("webp", np.uint8)]


@pytest.mark.parametrize(("suffix", "kind"), [*DEPTHS, ("jpg", np.uint8)])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_pictures_are_turned_upright(tmp_path, orientation, kind, suffix):
    values = np.add.outer(np.arange(20) * 9, np.arange(24)).astype(kind) * (257 if kind is np.uint16 else 1)
    exif = Image.Exif()
    exif[0x112] = orientation
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(values).save(file, exif=exif, **({"lossless": True} if suffix == "webp" else {"quality": 100}))
    expected = torch.from_numpy(ORIENTED[orientation](values) / (65535 if kind is np.uint16 else 255)).float()
    tolerance = 0.02 if suffix == "jpg" else 1e-6
    white = 65535.0 if kind is np.uint16 else None
    torch.testing.assert_close(to_grey(read_picture(file).values, white), expected, atol=tolerance, rtol=0)
    if kind is np.uint8:
        torch.testing.assert_close(frame(file, tmp_path / "cache").float(), expected, atol=0.02, rtol=0)


def test_what_looks_the_same_gives_the_same_data(tmp_path):
    """A grey picture over white with 6 greys and 4 opacities, in all the ways to write it."""
    generator = np.random.default_rng(0)
    greys, alphas = np.array([0, 40, 90, 140, 200, 255]), np.array([0, 51, 170, 255])
    grey, alpha = (
        generator.choice(greys, (20, 24)).astype(np.uint8),
        generator.choice(alphas, (20, 24)).astype(np.uint8),
    )
    rgba = np.dstack([grey, grey, grey, alpha])
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.tif")
    Image.fromarray(rgba, "RGBA").save(tmp_path / "rgba.webp", lossless=True, exact=True)
    Image.fromarray(np.dstack([grey, alpha]), "LA").save(tmp_path / "la.png")
    pairs = [(g, a) for g in greys for a in alphas]
    index = np.array([[pairs.index(one) for one in zip(*rows, strict=True)] for rows in zip(grey, alpha, strict=True)])
    palette = Image.fromarray(index.astype(np.uint8), "P")
    palette.putpalette([int(g) for g, _ in pairs for _ in range(3)])
    palette.save(tmp_path / "palette.png", transparency=bytes(int(a) for _, a in pairs))
    exact = (grey * (alpha / 255) + 255 * (1 - alpha / 255)) / 255
    first = still(tmp_path / "rgba.png")
    torch.testing.assert_close(first, torch.from_numpy(exact).float(), atol=0.51 / 255, rtol=0)
    for name in ("rgba.tif", "rgba.webp", "la.png", "palette.png"):
        assert torch.equal(still(tmp_path / name), first)
    flat = (first * 255).round().byte().numpy()
    Image.fromarray(flat).save(tmp_path / "flat.png")
    Image.fromarray(np.dstack([flat] * 3)).save(tmp_path / "rgb.png")
    for name in ("flat.png", "rgb.png"):
        assert torch.equal(still(tmp_path / name), first)
    for name in ("rgba.png", "rgba.tif", "rgba.webp", "la.png", "palette.png", "flat.png", "rgb.png"):
        assert torch.equal(frame(tmp_path / name, tmp_path / "cache"), torch.from_numpy(flat / 255))


def test_a_transparent_grey_or_colour_is_white(tmp_path):
    values = noise()
    for name, array, key in (("l", values, 7), ("rgb", np.dstack([values, values, values]), (7, 7, 7))):
        Image.fromarray(array).save(tmp_path / f"{name}.png", transparency=key)
        expected = torch.from_numpy(np.where(values == 7, 255, values) / 255).float()
        assert torch.equal(still(tmp_path / f"{name}.png"), expected)
    Image.fromarray(noise(dtype=np.uint16)).save(tmp_path / "deep.png", transparency=7)
    Image.fromarray(noise()).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures skipped: .*deep\.png \(16 bits with a transparent grey"):
        assert len(read_images(tmp_path, None, 16)) == 3


def test_how_pictures_become_grey_is_said_once(tmp_path):
    for number in range(3):
        Image.fromarray(noise(channels=(3,), seed=number)).save(tmp_path / f"c{number}.png")
        Image.fromarray(noise(seed=number)).save(tmp_path / f"g{number}.png")
    Image.fromarray(noise(channels=(4,)), "RGBA").save(tmp_path / "t.png")
    _, said = said_of(tmp_path)
    assert said == [
        "4 of 7 pictures have colour, which becomes grey: the luma of Rec. 601",
        "1 of 7 pictures are transparent in part and were laid over white",
    ]
    (tmp_path / "grey").mkdir()
    Image.fromarray(noise()).save(tmp_path / "grey/x.png")
    Image.fromarray(np.dstack([noise()] * 3)).save(tmp_path / "grey/y.png")  # colour in name only
    assert said_of(tmp_path / "grey")[1] == []
    clips = read_clips(tmp_path, cache=tmp_path / ".cache")
    assert clips.remarks[0] == "1 of 2 clips have colour, which becomes grey: the luma of Rec. 601"
    assert len(clips.remarks) == 2


def test_known_photographs_become_grey_without_a_word():
    with warnings.catch_warnings(action="error"):
        load_source(DataSettings(), 0)


def test_colour_of_16_bits_is_read_with_8_and_said(tmp_path):
    values = noise(channels=(3,), top=65536, dtype=np.uint16)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 24, 20, "rgb48be", Fraction(1)
    picture = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="rgb48be")
    (tmp_path / "x.png").write_bytes(b"".join(bytes(p) for p in [*encoder.encode(picture), *encoder.encode(None)]))
    images, said = said_of(tmp_path / "x.png")
    assert said[1] == "1 of 1 pictures have colour of 16 bits, of which 8 are read; save them in grey to keep all"
    expected = torch.from_numpy(values / 65535 @ np.array([0.299, 0.587, 0.114])).float()
    torch.testing.assert_close(images.grey(0), expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(("bits", "peak"), [(8, 255), (9, 256), (12, 4021), (14, 10000), (16, 65535)])
def test_the_white_level_is_the_least_number_of_bits(tmp_path, bits, peak):
    assert white_level(peak) == 2**bits - 1
    stack = spectrum(top=peak)
    for number, values in enumerate(stack):
        Image.fromarray(values).save(tmp_path / f"{number}.{('png', 'tif')[number % 2]}")
    np.save(tmp_path / ".stack.npy", stack.astype(">u2"))
    images, said = said_of(tmp_path)
    assert said == [f"16-bit pictures whose largest value is {peak}: white is {2**bits - 1}"]
    array, _ = said_of(tmp_path / ".stack.npy")
    assert images.white == array.white == 2**bits - 1
    for number, values in enumerate(stack):  # one level for all, whatever the largest value of each
        expected = torch.from_numpy(values / (2**bits - 1)).float()
        torch.testing.assert_close(images.grey(number), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(array.grey(number), expected, atol=1e-6, rtol=0)


def test_12_bits_in_16_are_prepared_as_the_same_intensities_in_floats(tmp_path):
    """What a .iml file and a picture of 16 bits hold of one scene: .971 correlated, divided by
    65535."""
    stack = spectrum()
    np.save(tmp_path / "deep.npy", stack)
    np.save(tmp_path / "float.npy", stack / 4095)
    with warnings.catch_warnings(action="ignore"):
        one, other = (
            load_source(DataSettings(data="images", data_path=tmp_path / f"{name}.npy"), 0)
            for name in ("deep", "float")
        )
    torch.testing.assert_close(one.batch(0, 500), other.batch(0, 500), atol=1e-4, rtol=1e-4)
    assert one.describe()["white"] == 4095
    assert "white" not in other.describe()


def test_the_white_level_of_a_run_is_taken_for_other_pictures(tmp_path):
    dark = spectrum(top=900)
    np.save(tmp_path / "dark.npy", dark)
    images, said = said_of(tmp_path / "dark.npy", white=4095)
    assert said == ["16-bit pictures whose largest value is 900: white is 4095, as given"]
    torch.testing.assert_close(images.grey(0), torch.from_numpy(dark[0] / 4095).float(), atol=1e-6, rtol=0)
    images, said = said_of(tmp_path / "dark.npy", white=511)
    assert said == [
        "16-bit pictures whose largest value is 900: white is 511, as given, and what is brighter is cut off there"
    ]
    assert images.grey(0).max() == 1
    clips = read_clips(tmp_path / "dark.npy", white=4095, cache=tmp_path / "cache")
    assert clips.white == 4095
    assert np.array_equal(clips.clips[0].frames, np.rint(dark / 4095 * 255))
    # a validation set of its own is measured by the white of the training set
    np.save(tmp_path / "bright.npy", spectrum(top=4021))
    settings = DataSettings(data="images", data_path=tmp_path / "bright.npy", val_path=tmp_path / "dark.npy")
    with pytest.warns(UserWarning, match="largest value is 900: white is 4095, as given"):
        assert load_source(settings, 0).describe()["white"] == 4095
    assert images_from_array(noise(), "x", 16, white=4095).white is None  # 8 bits have their own


def test_the_white_level_of_sequences_is_that_of_all_clips(tmp_path):
    data = tmp_path / "data"
    stacks = {"bright": spectrum(), "dark": spectrum(top=700)}
    for name, stack in stacks.items():
        (data / name).mkdir(parents=True)
        for number, values in enumerate(stack):
            Image.fromarray(values).save(data / name / f"{number}.{('png', 'tif')[number % 2]}")
    np.savez(tmp_path / "stacks.npz", **stacks)
    for path in (data, tmp_path / "stacks.npz"):
        for _ in range(2):  # decoded, and from the cache
            clips = read_clips(path, cache=tmp_path / "cache")
            assert clips.white == 4095
            assert clips.remarks == ["16-bit pictures whose largest value is 4021: white is 4095"]
            for clip in clips.clips:
                assert np.array_equal(clip.frames, np.rint(stacks[clip.name] / 4095 * 255))
    content = clips.content
    clips = read_clips(tmp_path / "stacks.npz", white=65535, cache=tmp_path / "cache")
    assert clips.content != content
    assert np.array_equal(clips.clips[1].frames, np.rint(stacks["dark"] / 65535 * 255))
    (data / "bright/7.tif").unlink()
    for file in (data / "bright").iterdir():
        file.unlink()
    assert read_clips(data, cache=tmp_path / "cache").white == 1023


def test_a_white_that_the_file_states_is_taken(tmp_path):
    values = noise(top=900, dtype=np.uint16)
    (tmp_path / "x.pgm").write_bytes(b"P5\n24 20\n4095\n" + values.astype(">u2").tobytes())
    images, said = said_of(tmp_path / "x.pgm")
    torch.testing.assert_close(images.grey(0), torch.from_numpy(values / 4095).float(), atol=1e-5, rtol=0)
    assert (images.white, said) == (None, [])


def test_every_page_of_a_tiff_is_an_image_but_for_copies_and_masks(tmp_path):
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(4)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    images, said = said_of(tmp_path)
    assert said == []
    assert [image.name.rpartition(" of ")[0] for image in images.images] == ["", "page 2", "page 3", "page 4"]
    for seed in range(4):
        assert torch.equal(images.grey(seed), to_grey(noise(seed=seed)))
    (clip,) = read_clips(tmp_path, cache=tmp_path / ".cache").clips
    assert np.array_equal(clip.frames, np.stack([noise(seed=seed) for seed in range(4)]))
    stream = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(stream) as writer:
        for image, kind in ((frames[0], 0), (frames[1].resize((5, 4)), 1), (frames[2], 0), (frames[3], 4)):
            image.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    (tmp_path / "pyramid.tif").write_bytes(stream.getvalue())
    assert pages(tmp_path / "pyramid.tif") == [0, 2]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_later_frames_of_animated_pictures_are_said_to_be_left_out(tmp_path, suffix):
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(5)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], duration=40, **options)
    images, said = said_of(tmp_path)
    assert said == [
        "left out: 4 later frames of 1 animated picture, of which the first is read; `data=video` reads every frame of "
        "a .gif"
    ]
    torch.testing.assert_close(images.grey(0), to_grey(noise()), atol=1e-6, rtol=0)
    if suffix == "gif":
        (clip,) = read_clips(tmp_path, cache=tmp_path / ".cache").clips
        assert np.array_equal(clip.frames, np.stack([noise(seed=seed) for seed in range(5)]))


KINDS = {
    "big-endian": lambda a: a.astype(">f4"),
    "longdouble": lambda a: a.astype(np.longdouble),
    "columns first": np.asfortranarray,
    "negative strides": lambda a: a[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "every other": lambda a: np.repeat(a, 2, 2)[:, :, ::2],
}


@pytest.mark.parametrize("kind", KINDS)
def test_stacks_of_every_kind_give_the_same_pictures_and_frames(tmp_path, kind):
    stack = noise(6, 20 * 24).reshape(6, 20, 24) / 255
    given = KINDS[kind](stack)
    images = images_from_array(given, "x", 16)
    for number in range(6):
        torch.testing.assert_close(images.grey(number), torch.from_numpy(stack[number]).float())
    np.save(tmp_path / "x.npy", given)
    (clip,) = read_clips(tmp_path / "x.npy", cache=tmp_path / "cache").clips
    assert np.array_equal(clip.frames, np.rint(stack * 255))
    half = images_from_array(stack.astype(np.float16), "x", 16)
    torch.testing.assert_close(half.grey(0), torch.from_numpy(stack[0]).float(), atol=1e-3, rtol=0)


def test_booleans_are_black_and_white(tmp_path):
    stack = noise(6, 20 * 24).reshape(6, 20, 24) > 127
    assert torch.equal(images_from_array(stack, "x", 16).grey(2), torch.from_numpy(stack[2]).float())
    np.save(tmp_path / "x.npy", stack)
    assert np.array_equal(read_clips(tmp_path / "x.npy", cache=tmp_path / "cache").clips[0].frames, stack * 255)
