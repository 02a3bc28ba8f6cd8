"""Recordings: .wav files and arrays, windows of them, and what a run makes of another one."""

import re

import numpy as np
import pytest
import torch
from scipy.io import wavfile

import itervae
from itervae import InputError, cli
from itervae.data import DataSettings, Preparation, load_source
from itervae.formats import read_array, sample_rate


def write(path, samples, rate=8000):
    wavfile.write(path, rate, samples)
    return path


@pytest.mark.parametrize(
    ("dtype", "largest"), [(np.int16, 2.0**15), (np.int32, 2.0**31), (np.uint8, 128.0), (np.float32, 1.0)]
)
def test_sound_is_read_in_units_of_full_scale(tmp_path, dtype, largest):
    wave = np.array([[-0.5, 0.25], [0.0, 0.5], [0.75, -1.0]])
    zero = 128 if dtype is np.uint8 else 0
    path = write(tmp_path / "x.wav", (wave * largest + zero).astype(dtype))
    array = read_array(path)
    assert array.shape == (1, 2, 3)
    np.testing.assert_allclose(array[0], wave.T, atol=1e-6)
    assert sample_rate(path) == 8000
    assert read_array(write(tmp_path / "mono.wav", (wave[:, 0] * largest + zero).astype(dtype))).shape == (1, 3)


@pytest.fixture
def folder(tmp_path):
    """Three recordings of two channels, of different lengths."""
    random = np.random.default_rng(0)
    for index, length in enumerate((300, 400, 500)):
        write(tmp_path / f"{index}.wav", (3000 * random.normal(size=(length, 2)) + 100).astype(np.int16))
    return tmp_path


def test_windows_are_pieces_of_recordings_in_one_scale(folder):
    source = load_source(DataSettings(data="recordings", data_path=folder, patch_size=64), 0)
    assert source.shape == (2, 64)
    whole = [read_array(folder / f"{index}.wav")[0] for index in range(3)]
    centred = [each - each.mean(1, keepdims=True) for each in whole]
    held = {len(each[0]) for each in map(np.asarray, source.held_pictures())}
    train = [each for each in centred if each.shape[1] not in held]
    assert len(train) == 2
    scale = source.fitted["scale"]
    assert scale == pytest.approx(np.concatenate([each.ravel() for each in train]).std() ** -1, rel=1e-5)
    batch = source.batch(3, 20).numpy().reshape(20, 2, 64)
    for window in batch:
        places = [
            np.abs(np.lib.stride_tricks.sliding_window_view(scale * each, 64, 1).swapaxes(0, 1) - window).max((1, 2))
            for each in train
        ]
        assert min(place.min() for place in places) < 1e-5
    assert torch.equal(source.batch(3, 20, slice(5, 9)), source.batch(3, 20)[5:9])
    assert source.describe()["train_recordings"] == 2


def test_of_a_single_recording_the_end_is_held_out(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(1000.0)[None])
    source = load_source(DataSettings(data="recordings", data_path=tmp_path / "x.npy", patch_size=50), 0)
    assert source.shape == (50,)
    assert source.held_pictures()[0].shape == (200,)
    steps = source.batch(0, 10).diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, source.fitted["scale"]), rtol=1e-3, atol=1e-6)


def test_a_run_encodes_another_recording_whole_in_its_own_scale(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    options = (
        "--decoder",
        "convolutional",
        "--dimensions",
        "1",
        "--latents",
        "3",
        "--atom-size",
        "16",
        "--stride",
        "8",
    )
    data = ("--data", "recordings", "--data-path", ".", "--patch-size", "64")
    cli.main(["train", *data, *options, "--updates", "2", "--batch-size", "4", "--run-dir", "run"])
    write(folder / "new.wav", (1000 * np.random.default_rng(1).normal(size=(333, 2))).astype(np.int16))
    cli.main(["infer", "run", "--input", "new.wav", "--output", "o.npz"])
    assert "1 recordings of 2x333 values, whole, prepared as those of the run" in capsys.readouterr().err
    codes, run = np.load("o.npz"), itervae.load("run")
    assert codes["reconstruction"].shape == (1, 2, 333)
    x = run.prepare("new.wav").x
    raw = torch.from_numpy(read_array(folder / "new.wav"))
    torch.testing.assert_close(x, run.prepare.fitted["scale"] * (raw - raw.mean(2, keepdim=True)))
    write(folder / "fast.wav", np.zeros((100, 2), np.int16), rate=16000)
    with pytest.raises(InputError, match="16000 samples a second, and the run was trained at 8000; resample"):
        run.prepare("fast.wav")


def test_what_is_no_recording_is_refused(folder, tmp_path):
    def source(path, size=64):
        return load_source(DataSettings(data="recordings", data_path=path, patch_size=size), 0)

    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4, 5)))
    np.save(tmp_path / "silent.npy", np.ones((1, 500)))
    (tmp_path / "bad.wav.txt").write_text("no sound")
    for path, size, message in (
        (folder, 350, "of 300 samples; give longer ones, or a `patch_size`"),
        (tmp_path / "empty", 64, "without .wav files; name one"),
        (tmp_path / "x.npy", 64, r"shape \(2, 3, 4, 5\); recordings are \(N, T\)"),
        (tmp_path / "silent.npy", 64, "nothing but silence to train on; give"),
    ):
        with pytest.raises(InputError, match=message):
            source(path, size)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "x.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(InputError, match=r"x.wav cannot be read .*: make or copy it again"):
        source(tmp_path / "damaged")
    (tmp_path / "damaged" / "x.wav").unlink()
    write(folder / "fast.wav", np.zeros((300, 2), np.int16), rate=16000)
    with pytest.raises(InputError, match=re.escape("2 channels at 16000 samples a second")):
        source(folder)


def test_settings_say_what_they_are_for():
    prepare = Preparation(DataSettings(data="recordings"), (64,), {"scale": 2.0}, atom_size=16)
    x = prepare(np.arange(10.0)[None].repeat(10, 1)).x
    assert x.shape == (1, 100)
    assert x.mean().abs() < 1e-4
