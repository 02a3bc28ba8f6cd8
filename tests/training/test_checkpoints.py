"""Checkpoints prove that they are whole, and what is none, or not what it says, is refused in one
sentence."""

import hashlib
import zipfile

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError
from itervae.data import DataSettings
from itervae.inference import ENGINES
from itervae.model import PoissonVAESettings
from itervae.training import BEST, LAST, RunSettings, TrainingSettings, read_checkpoint, train_run, write_checkpoint

CONTENT = {"config": {"latents": 3}, "shape": [4], "model": {"w": torch.arange(5.0)}, "engine": {}, "update": 7}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on rows."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 6)))
    train_run(settings(folder / "x.npy"), folder / "run")
    return folder / "run"


def settings(path, **training):
    return RunSettings(
        "lista",
        DataSettings(data="array", data_path=path),
        PoissonVAESettings(latents=5),
        ENGINES["lista"].Settings(steps=2),
        TrainingSettings(**{"updates": 4, "batch_size": 10, "validate_every": 2, "device": "cpu", **training}),
    )


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_flipped_byte_is_refused_wherever_it_is(tmp_path):
    path = tmp_path / LAST
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    assert read_checkpoint(path)["update"] == 7
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        refused(path)
    for bit in range(8):  # of the number of the format, say, or of the mark of the digest
        for position in range(len(whole) - 48, len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            refused(path)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / LAST
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 7), *range(len(whole) - 100, len(whole))}:
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole + b"\n")
    assert "truncated or corrupt" in refused(path)


def test_torch_reads_it_and_the_digest_is_that_of_what_is_before_it(tmp_path):
    path = tmp_path / LAST
    write_checkpoint(path, CONTENT)
    content = torch.load(path, weights_only=True)
    assert content["format"] == 2
    assert torch.equal(content["model"]["w"], CONTENT["model"]["w"])
    whole = path.read_bytes()
    assert hashlib.sha256(whole[:-48]).digest() == whole[-32:]


def test_format_1_is_still_read_and_a_later_one_without_its_digest_is_not(tmp_path):
    path = tmp_path / LAST
    torch.save({"format": 1, **CONTENT}, path)
    assert read_checkpoint(path)["update"] == 7
    for number, message in ((2, "its end is missing"), (3, "not an itervae checkpoint of format 1 or 2")):
        torch.save({"format": number, **CONTENT}, path)
        assert message in refused(path)


def test_a_run_of_format_1_goes_on(run, tmp_path):
    saved = read_checkpoint(run / LAST)
    for name in ("validated", "validation", "validation_content"):
        saved.pop(name, None)
    torch.save(saved | {"format": 1}, tmp_path / LAST)
    path = saved["config"]["data_path"]
    assert train_run(settings(path, updates=6), tmp_path, resume=True).updates == 6
    assert read_checkpoint(tmp_path / LAST)["format"] == 2


def test_files_that_are_no_checkpoints(tmp_path, run):
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("notes.txt", "hello")
    np.savez(tmp_path / "phi.npz", dictionary=np.eye(4))
    with pytest.raises(InputError, match=r"phi.npz is no checkpoint; expected a run .* itervae.load_dictionary"):
        itervae.load(tmp_path / "phi.npz")
    (tmp_path / "text.pt").write_text("this is text\n" * 20)
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "bytes.pt").write_bytes(bytes(range(256)) * 9)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save({"format": 1, "config": 3, "shape": [2], "model": {}, "engine": {}}, tmp_path / "config.pt")
    for name, message in (
        ("zip", "truncated or corrupt"),
        ("text", "is no checkpoint.*expected a file written by itervae train"),
        ("empty", r"is no checkpoint \(0 bytes\)"),
        ("bytes", "is no checkpoint"),
        ("tensor", "not an itervae checkpoint"),
        ("config", "has a int for 'config'"),
    ):
        with pytest.raises(InputError, match=message):
            itervae.load(tmp_path / f"{name}.pt")
    (tmp_path / "config.yaml").write_text("latents: 3\n")
    with pytest.raises(InputError, match=r"begin it again with itervae train --config .*config.yaml --run-dir"):
        itervae.load(tmp_path)


def test_a_checkpoint_that_lacks_something_or_fits_nothing_says_what(run, tmp_path):
    saved = read_checkpoint(run / BEST)
    path = tmp_path / BEST

    def load_says(message, **changed):
        write_checkpoint(path, {name: value for name, value in (saved | changed).items() if value is not None})
        with pytest.raises(InputError, match=message) as caught:
            itervae.load(path)
        assert "\n" not in str(caught.value)

    for name in ("config", "shape", "model", "engine"):
        load_says(f"has no '{name}'", **{name: None})
    config = saved["config"]
    load_says("inference engine 'mine', which is not known here; expected one of .*lista.*imported and listed",
              config=config | {"inference": "mine"})  # fmt: skip
    load_says("model 'other-vae', which is not known here", config=config | {"model": "other-vae"})
    load_says("the model in checkpoint .* does not fit the settings in it .*size mismatch",
              config=config | {"latents": 7})  # fmt: skip
    load_says("the engine in checkpoint .* does not fit the settings in it", engine={"x": torch.zeros(2)})
    load_says("the model in checkpoint .* does not fit", model=saved["model"] | {"decoder.weight": torch.zeros(2, 2)})
    for name, value, message in (
        ("optimizer", None, "has no 'optimizer'"),
        ("update", "4", "has a str for 'update'"),
        ("optimizer", {"state": {}, "param_groups": []}, "does not fit the settings in it"),
        ("generator", torch.zeros(1, 3, dtype=torch.uint8), "does not fit the settings in it"),
    ):
        content = {key: kept for key, kept in (saved | {name: value}).items() if kept is not None}
        write_checkpoint(tmp_path / LAST, content)
        with pytest.raises(InputError, match=message):
            train_run(settings(config["data_path"], updates=9), tmp_path, resume=True)
