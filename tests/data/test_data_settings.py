"""Data settings: what applies to which data, and what the command line makes of them."""

from pathlib import Path

import pytest
import tyro

from itervae.data import DataSettings, load_source
from itervae.errors import InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data_key": "train"}, "`data_key=train` does not apply to `data=photos`"),
        ({"data": "mnist", "data_path": Path("x")}, "`data_path=x` does not apply to `data=mnist`"),
        ({"data": "mnist", "val_share": 0.3}, "`val_share=0.3` does not apply to `data=mnist`"),
        ({"data": "mnist", "whiten": False}, "`whiten=False` does not apply to `data=mnist`"),
        ({"data": "array", "data_path": Path("x"), "local_contrast": True}, "`local_contrast=True` does not apply"),
        (
            {"contrast_rule": "published"},
            "`contrast_rule=published` says how local contrast is normalized",
        ),
        ({"data": "mnist", "colour": True}, "`colour=True` does not apply to `data=mnist`"),
        ({"colour": True, "local_contrast": True}, "`local_contrast=True` normalizes the contrast of grey"),
        ({"whitening": "zca", "local_contrast": True}, "`whitening=zca` whitens patches; leave one"),
        ({"whitening": "zca", "whiten": False}, "`whitening=zca` says how images are whitened, and `whiten=False`"),
        ({"data": "mnist", "contrast_rule": "published"}, "does not apply to `data=mnist`"),
        ({"data": "cifar16", "patch_size": 8}, "`patch_size=8` does not apply to `data=cifar16`"),
        ({"data": "array"}, "`data=array` needs `data_path`"),
        ({"data": "images"}, "`data=images` needs `data_path`"),
        ({"data": "digits"}, "`data=digits` is unknown; choose one of photos"),
        ({"data": "video"}, "`data=video` needs `data_path`"),
        ({"frames": 8}, "`frames=8` does not apply to `data=photos`; leave it out, or use `data=video, drift`"),
        ({"data": "drift", "val_sequences": "a"}, "`val_sequences=a` does not apply to `data=drift`"),
        ({"data": "drift", "frames": 0}, "`frames=0` is too few"),
        ({"data": "video", "data_path": Path("x"), "val_sequences": "2"}, "`val_sequences=2` is not a share"),
        ({"val_share": 0.0}, "`val_share=0.0` is not a share"),
        ({"val_share": 1.0}, "`val_share=1.0` is not a share"),
        ({"patch_size": 1}, "`patch_size=1` is too small"),
        ({"data": "images", "data_path": Path("x"), "val_key": "v", "val_share": 0.3}, "does not apply where `val"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        load_source(DataSettings(**given), 0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"download": False},
        {"data": "mnist"},
        {"val_share": 0.1, "patch_size": 8, "whiten": False, "local_contrast": True},
        {"data": "images", "data_path": Path("x"), "val_path": Path("y"), "val_key": "v"},
        {"data": "array", "data_path": Path("x"), "data_key": "k", "val_share": 0.5},
        {"data": "drift", "frames": 3, "val_share": 0.5},
        {"data": "video", "data_path": Path("x"), "frames": 3, "val_sequences": "cows, dog"},
    ],
)
def test_settings_that_fit_pass(given):
    DataSettings(**given).check()


def test_what_is_laid_over_has_to_be_read_whatever_its_value():
    rows = DataSettings(data="array", data_path=Path("x.npy"))
    assert rows.overlaid({"val_share": 0.2}) == rows
    for given, text in (({"patch_size": 16}, "`patch_size=16`"), ({"whiten": True}, "`whiten=True`")):
        with pytest.raises(InputError, match=f"{text} does not apply to `data=array`"):
            rows.overlaid(given)
    assert DataSettings(patch_size=8).overlaid({"data": "drift"}) == DataSettings(data="drift", patch_size=8)


def test_the_command_line_fills_every_setting():
    line = "--data images --data-path a.npz --data-key t --val-key v --patch-size 12 --no-whiten --no-download"
    settings = tyro.cli(DataSettings, args=line.split())
    assert settings == DataSettings(
        data="images",
        data_path=Path("a.npz"),
        data_key="t",
        val_key="v",
        patch_size=12,
        whiten=False,
        download=False,
    )
