"""Pictures of sequences: lines hold the values of the report, dots the spikes, and what does not
fit is refused."""

import warnings

import numpy as np
import pytest
from PIL import Image

from itervae.errors import InputError
from itervae.plotting import save, save_animation, sequence_animation, sequence_figure, spikes_figure
from itervae.plotting.canvas import RED

FRAMES, UNITS, SHAPE = 5, 7, (3, 4)
STEPS = (1, 2, 5)


def report(sequences=("drift",), carryovers=("none", "mixing"), steps=STEPS):
    rng = np.random.default_rng(0)
    return {
        "sequences": {
            sequence: {
                carryover: {
                    "free_energy": rng.normal(100, 5, FRAMES).tolist(),
                    "optimum": rng.normal(100, 5),
                    "at_steps": {str(number): rng.normal(120, 5) for number in steps},
                }
                for carryover in carryovers
            }
            for sequence in sequences
        }
    }


def sequence(frames=FRAMES):
    """x, counts and reconstruction; two units are silent."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0, (frames, UNITS))
    counts[:, [2, 5]] = 0
    counts[:, 0] = 1
    x = rng.normal(size=(frames, 12))
    return x, counts, 0.5 * x


def drawn(figure):
    return [axes for axes in figure.axes if axes.axison]


def test_lines_hold_the_report():
    content = report(("a", "b"))
    axes = drawn(sequence_figure(content))
    assert len(axes) == 4
    for index, name in enumerate(("a", "b")):
        above, below = axes[index], axes[index + 2]
        assert above.get_title() == name
        for line, found in zip(above.get_lines(), content["sequences"][name].values(), strict=True):
            np.testing.assert_allclose(line.get_xdata(), range(1, FRAMES + 1))
            np.testing.assert_allclose(line.get_ydata(), found["free_energy"])
        lines = below.get_lines()
        for number, found in enumerate(content["sequences"][name].values()):
            optimum, line = lines[2 * number : 2 * number + 2]
            np.testing.assert_allclose(optimum.get_ydata(), found["optimum"])
            assert optimum.get_linestyle() == ":"
            np.testing.assert_allclose(line.get_xdata(), STEPS)
            np.testing.assert_allclose(line.get_ydata(), list(found["at_steps"].values()))
        assert below.get_xscale() == "log"
        assert list(below.get_xticks()) == list(STEPS)


def test_the_legend_names_the_carryovers_and_fits():
    names = ("none", "linear (a run with a long name)", "linear (another run with a long name)", "mixing", "gated")
    figure = sequence_figure(report(carryovers=names))
    (legend,) = figure.legends
    assert tuple(text.get_text() for text in legend.get_texts()) == names
    figure.canvas.draw()
    box, page = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0
    assert box.x1 <= page.x1


def test_a_long_name_is_shortened():
    title = drawn(sequence_figure(report(("a" * 80,))))[0].get_title()
    assert title.startswith("aaaa")
    assert title.endswith("…")


def test_an_engine_of_one_pass_is_a_dashed_line():
    content = report()
    content["sequences"]["drift"]["mixing"]["at_steps"] = {"0": 111.0}
    figure = sequence_figure(content)
    dashed = [line for line in drawn(figure)[1].get_lines() if line.get_linestyle() == "--"]
    assert len(dashed) == 1
    np.testing.assert_allclose(dashed[0].get_ydata(), 111.0)
    assert "dashed: one pass" in figure.legends[0].get_title().get_text()
    sequence_figure(report(steps=(0,)))
    assert drawn(sequence_figure(report(steps=(3,))))[1].get_xticks() == [3]
    sequence_figure(report(steps=()))


def test_what_is_not_finite_is_left_out(tmp_path):
    content = report()
    found = content["sequences"]["drift"]["mixing"]
    found["free_energy"][2], found["optimum"], found["at_steps"]["2"] = None, None, float("nan")  # as JSON has it
    figure = sequence_figure(content)
    values = drawn(figure)[0].get_lines()[1].get_ydata()
    np.testing.assert_array_equal(np.isnan(values), [False, False, True, False, False])
    save(figure, tmp_path / "f.png")


def test_many_sequences_wrap_into_bands_and_too_many_are_left_out():
    figure = sequence_figure(report([f"s{number}" for number in range(6)], ["none"]))
    assert [axes.get_title() for axes in drawn(figure) if axes.get_title()] == [f"s{number}" for number in range(6)]
    assert len(drawn(figure)) == 12
    assert figure.get_figheight() > 8
    figure = sequence_figure(report([f"s{number}" for number in range(60)], ["none"], steps=(1,)))
    assert len(drawn(figure)) == 96
    assert "the first 48 of 60 sequences" in figure.legends[0].get_title().get_text()
    assert figure.get_figheight() * 200 < 2**16  # pixels that can be written


def test_dots_are_spikes_ordered_by_time():
    x, counts, reconstruction = sequence()
    figure = spikes_figure(x, counts, reconstruction, SHAPE, "name")
    above, raster, below = figure.axes
    assert figure.get_suptitle() == "name"
    active = counts.sum(0) > 0
    assert raster.get_ylabel() == f"{active.sum()} of {UNITS} units"
    shown = counts[:, active]
    when = (shown * np.arange(1, FRAMES + 1)[:, None]).sum(0) / shown.sum(0)
    shown = shown[:, np.argsort(when)]
    (dots,) = raster.collections
    expected = [(t + 1, unit) for t, unit in zip(*np.nonzero(shown), strict=True)]
    np.testing.assert_array_equal(dots.get_offsets(), expected)
    sizes = dots.get_sizes()
    np.testing.assert_allclose(sizes / sizes.min(), shown[np.nonzero(shown)])
    for axes, images in ((above, x), (below, reconstruction)):
        picture = axes.images[0].get_array()
        assert picture.shape == (3, 4 * FRAMES)
        grey = 0.5 + 0.5 * images / np.abs(x).max()
        np.testing.assert_allclose(picture, np.concatenate(list(grey.reshape(-1, *SHAPE)), 1))


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_any_number_of_frames(tmp_path, frames):
    x, counts, reconstruction = sequence(frames)
    figure = spikes_figure(x, counts, reconstruction, SHAPE)
    save(figure, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as picture:
        assert max(picture.size) <= 1700
    ticks = figure.axes[2].get_xticks()
    assert all(1 <= tick <= frames and tick == int(tick) for tick in ticks)
    assert len(ticks)


def test_a_silent_sequence_and_nan_frames(tmp_path):
    x, counts, reconstruction = sequence()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = spikes_figure(x, 0 * counts, reconstruction, SHAPE)
        assert figure.axes[1].get_ylabel() == f"0 of {UNITS} units"
        save(figure, tmp_path / "s.png")
        assert len(sequence_animation(x, 0 * counts, reconstruction, SHAPE)) == FRAMES
        x[1] = reconstruction[1] = np.nan
        figure = spikes_figure(x, counts, reconstruction, SHAPE)
        assert np.isnan(np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)).sum() == 12
        save(figure, tmp_path / "s.png")
        red = tuple(int(RED[i : i + 2], 16) for i in (1, 3, 5))
        with Image.open(tmp_path / "s.png") as picture:
            assert (np.asarray(picture.convert("RGB")) == red).all(-1).sum() > 1000
        save(spikes_figure(np.nan * x, counts, np.nan * x, SHAPE), tmp_path / "s.png")
        save(spikes_figure(0 * np.nan_to_num(x), counts, 0 * np.nan_to_num(x), SHAPE), tmp_path / "s.png")


@pytest.mark.parametrize("frames", [1, 4])
def test_the_animation_has_every_frame(tmp_path, frames):
    pictures = sequence_animation(*sequence(frames), SHAPE)
    assert len(pictures) == frames
    assert all(picture.dtype == np.uint8 and picture.shape == (260, 800, 3) for picture in pictures)
    path = tmp_path / "folder" / "a.gif"
    save_animation(pictures, path)
    with Image.open(path) as found:
        assert found.n_frames == frames
        assert found.size == (800, 260)
        if frames > 1:
            assert found.info["loop"] == 0
        for index, picture in enumerate(pictures):
            found.seek(index)
            shown = np.asarray(found.convert("RGB")).astype(int)
            assert np.abs(shown - picture).mean() < 3  # 256 colours


def test_the_animation_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    pictures = sequence_animation(*sequence(2), SHAPE)
    path = tmp_path / "a.gif"
    path.write_bytes(b"before")

    def full(self, target):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", full)
        with pytest.raises(InputError, match=r"could not write .*disk full"):
            save_animation(pictures, path)
    assert path.read_bytes() == b"before"
    assert [found.name for found in tmp_path.iterdir()] == ["a.gif"]


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="no sequence to draw"):
        sequence_figure({"sequences": {}})
    content = report()
    content["sequences"]["drift"]["none"]["free_energy"] = [[1.0]]
    with pytest.raises(InputError, match=r"free energy of none on drift has shape \(1, 1\); expected \(T,\)"):
        sequence_figure(content)
    x, counts, reconstruction = sequence()
    for draw in (spikes_figure, sequence_animation):
        with pytest.raises(InputError, match=r"shape \(3, 5\) has 15 values but a datum of x has 12"):
            draw(x, counts, reconstruction, (3, 5))
        with pytest.raises(InputError, match=r"a frame has the shape \(12,\); expected an image"):
            draw(x, counts, reconstruction, (12,))
        with pytest.raises(InputError, match=r"shapes \(5, 12\), \(4, 7\) and \(5, 12\)"):
            draw(x, counts[:4], reconstruction, SHAPE)
        with pytest.raises(InputError, match=r"shapes \(5, 12\), \(5, 7\) and \(5, 11\)"):
            draw(x, counts, reconstruction[:, :11], SHAPE)
        with pytest.raises(InputError, match=r"counts has shape \(7,\); expected \(T, K\)"):
            draw(x, counts[0], reconstruction, SHAPE)
    with pytest.raises(InputError, match=r"a.mp4; expected one that ends in .gif"):
        save_animation([np.zeros((2, 2, 3), np.uint8)], tmp_path / "a.mp4")
    with pytest.raises(InputError, match="there is no frame to write"):
        save_animation([], tmp_path / "a.gif")
