"""`metrics.jsonl`: one line of JSON for each record of a run."""

import json
from pathlib import Path
from typing import IO, Any

from itervae.errors import InputError
from itervae.files import strict, write_bytes


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records in a file of metrics; none where there is no file.

    A last line without its end is of a process that writes it, or was killed as it did, and is left
    out.

    Raises:
        InputError: a line that is no record, with a `split` and an `update`.
    """
    if not path.exists():
        return []
    records = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); expected the metrics of a run, or no such file") from error
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # no UTF-8, or no JSON
            record = None
        if not isinstance(record, dict) or "split" not in record or type(record.get("update")) is not int:
            shown = line[:40].decode("ascii", "backslashreplace")
            raise InputError(
                f"line {number} of {path} is {shown!r}; expected a record of itervae train, such as "
                '{"split": "train", "update": 20, ...}: delete the line, or the file if you can do without it'
            )
        records.append(record)
    return records


def until(records: list[dict[str, Any]], update: int, validated: bool) -> list[dict[str, Any]]:
    """Records up to the update of a checkpoint: the later ones will be made again, and so will the
    validation at that update unless the checkpoint has it."""
    return [
        record
        for record in records
        if record["update"] < update or (record["update"] == update and (validated or record["split"] != "validation"))
    ]


class Metrics:
    """The file of metrics as a run writes it: the `records` so far, to which more are added.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, records: list[dict[str, Any]]) -> None:
        self.path, self.records = path, list(records)
        write_bytes(path, b"".join(_line(record) for record in records))  # whole, or the earlier one
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record; it is in the file when this returns.

        Raises:
            OSError: a full disk, say.
        """
        record = strict(record)  # as it will be read again
        self.records.append(record)
        rest = memoryview(_line(record))
        while rest:
            rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        self._file.close()


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(strict(record), allow_nan=False).encode() + b"\n"
