"""Arrays that stay in their file: the same batches, little memory, and files that claim more than
they hold."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from itervae.cli.work.gap import _rows
from itervae.data import DataSettings, load_source, source
from itervae.data.arrays import content_hash
from itervae.data.rows import Rows, check_rows
from itervae.errors import InputError
from itervae.formats import kinds, read_array


@pytest.fixture
def large(monkeypatch):
    """Every array is too large for memory."""
    monkeypatch.setattr(source, "SMALL", 0)


def settings(path, **given):
    return DataSettings(data="array", data_path=path, **given)


def numbers(rows=40, columns=6):
    return np.random.default_rng(0).standard_normal((rows, columns)) * 100


KINDS = {
    "float64": numbers(),
    "float32": numbers().astype(np.float32),
    "big-endian": numbers().astype(">f8"),
    "float16": numbers().astype(np.float16),
    "longdouble": numbers().astype(np.longdouble),
    "integers": numbers().astype(">i2"),
    "booleans": numbers() > 0,
    "columns first": np.asfortranarray(numbers()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("archive", [False, True])
def test_batches_are_the_same_from_the_file_and_from_memory(tmp_path, monkeypatch, kind, archive):
    path = tmp_path / ("x.npz" if archive else "x.npy")
    np.savez(path, x=KINDS[kind]) if archive else np.save(path, KINDS[kind])
    kept = load_source(settings(path), 3)
    monkeypatch.setattr(source, "SMALL", 0)
    mapped = load_source(settings(path), 3)
    assert isinstance(kept.train, torch.Tensor)
    assert isinstance(mapped.train, Rows)
    assert (kept.ahead, mapped.ahead) == (False, True)
    assert mapped.describe() == kept.describe()
    assert torch.equal(mapped.validation, kept.validation)
    for index in (0, 7, 1):
        assert torch.equal(mapped.batch(index, 9), kept.batch(index, 9))
        assert torch.equal(mapped.batch(index, 9, slice(2, 5)), kept.batch(index, 9)[2:5])
    expected = torch.from_numpy(KINDS[kind].astype(np.float32))
    both = torch.cat([mapped.train[:], mapped.validation])
    assert torch.equal(both[both[:, 1].argsort(stable=True)].sort(0).values, expected.sort(0).values)


def test_rows_are_a_tensor_to_those_who_use_them(tmp_path, large, monkeypatch):
    np.save(tmp_path / "x.npy", numbers(900))
    mapped = load_source(settings(tmp_path / "x.npy"), 0)
    monkeypatch.undo()
    kept = load_source(settings(tmp_path / "x.npy"), 0)
    assert (mapped.train.min(), mapped.train.max()) == (kept.train.min(), kept.train.max())
    assert mapped.train.shape == kept.train.shape
    for split in ("train", "validation", "all"):
        assert torch.equal(_rows(mapped, split, 50), _rows(kept, split, 50))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 240 MB, of zeros that the disk need not hold."""
    head = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (30_000, 1000))
    head[:, 0] = np.arange(30_000)
    del head
    code = (
        "import resource, sys\n"
        "from itervae.data import DataSettings, load_source, source\n"
        "source.SMALL = 0\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "source = load_source(DataSettings(data='array', data_path=sys.argv[1], val_share=1 / 30), 0)\n"
        "rows = [source.batch(index, 1000)[:, 0].clone() for index in range(29)]\n"
        "assert len(set(sum((part.tolist() for part in rows), []))) == 29_000\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.npy"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100  # MB; in memory the rows take 120, as they lie in the file 240


def test_a_file_that_is_written_to_is_refused_and_one_that_is_replaced_is_not_mixed(tmp_path, large):
    np.save(tmp_path / "x.npy", numbers())
    first = load_source(settings(tmp_path / "x.npy"), 0)
    expected = first.batch(0, 20)
    np.save(tmp_path / "other.npy", numbers() + 1)
    (tmp_path / "other.npy").rename(tmp_path / "x.npy")
    assert torch.equal(first.batch(0, 20), expected)
    second = load_source(settings(tmp_path / "x.npy"), 0)
    np.save(tmp_path / "x.npy", numbers() + 2)
    with pytest.raises(InputError, match=r"x\.npy changed since it was first read"):
        second.batch(0, 20)


def test_a_value_that_is_not_finite_is_found_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("itervae.data.rows.CHUNK_BYTES", 100)
    array = numbers()
    array[33, 4] = 1e39
    np.save(tmp_path / "x.npy", array)
    for given in (array, read_array(tmp_path / "x.npy", None)):
        with pytest.raises(InputError, match=r"x holds 1e\+39 at row 33, column 4, which is no finite 32-bit number"):
            check_rows(given, "x")


def test_the_hash_of_chunks_is_that_of_the_whole(tmp_path, monkeypatch):
    import hashlib

    for array in (numbers(), np.asfortranarray(numbers()), numbers()[::-2, 1:4], np.float64(3), np.zeros((0, 3))):
        np.save(tmp_path / "x.npy", array)
        expected = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]
        for size in (2**24, 100):
            monkeypatch.setattr("itervae.data.rows.CHUNK_BYTES", size)
            assert content_hash([np.asarray(array)]) == content_hash([np.load(tmp_path / "x.npy")]) == expected
            if array.size:
                assert content_hash([read_array(tmp_path / "x.npy", None)]) == expected


def header(shape, kind="<f8", version=1):
    fields = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(fields).to_bytes(2 if version == 1 else 4, "little") + fields


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (500_000_000, 1000),
            r"claims float64 values of shape \(500000000, 1000\), 4000000000000 bytes, but at most 800",
        ),
        ((2**62, 4), r"claims float64 values of shape .* 147573952589676412928 bytes"),  # 0 in 64 bits
        ((2**33, 2**31), r"claims float64 values"),
        ((-5, -20), r"claims the shape \(-5, -20\)"),
    ],
)
def test_files_that_claim_more_than_they_hold_are_refused(tmp_path, version, shape, message):
    content = header(shape, version=version) + bytes(800)
    (tmp_path / "x.npy").write_bytes(content)
    for name, method in (("stored.npz", zipfile.ZIP_STORED), ("packed.npz", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.writestr("a.npy", content)
    for name in ("x.npy", "stored.npz", "packed.npz"):
        with pytest.raises(InputError, match=message) as error:
            read_array(tmp_path / name, None)
        assert name in str(error.value)


def test_an_archive_that_lies_about_its_member_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", header((10**12, 4)) + bytes(800))
        # of the directory at the end, which is written now
        archive.getinfo("a.npy").file_size = archive.getinfo("a.npy").compress_size = 2**45
    with pytest.raises(InputError, match=r"x\.npz .a. claims float64 values of shape"):
        read_array(tmp_path / "x.npz", None)


def test_an_archive_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1000, 1000)))
    monkeypatch.setattr(kinds, "free_memory", lambda: 7e6)
    with pytest.raises(
        InputError, match=r"x\.npz 'a' takes 0\.0 GB of memory, and 0\.0 GB are free; save it as a \.npy"
    ):
        read_array(tmp_path / "x.npz", None)
    np.save(tmp_path / "x.npy", np.zeros((1000, 1000)))
    assert read_array(tmp_path / "x.npy", None).shape == (1000, 1000)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_packed_by_others_are_read(tmp_path, method):
    np.save(tmp_path / "a.npy", np.zeros((1000, 1000)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    assert not read_array(tmp_path / "x.npz", None).any()


def test_what_is_no_array_in_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(InputError, match=r"x\.npz cannot be read"):
        read_array(tmp_path / "x.npz", None)
