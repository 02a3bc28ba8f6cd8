"""Data per second of `itervae train` over several processes that share every batch, over that of
one, once a quarter of the updates is done. On a CPU one thread a process, 1 and 2 processes; on
GPUs one process each.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.figures import Line, lines_figure
from benchmarks.machine import Setup
from benchmarks.timing import ratio, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES = {
    "lca-unrolled, 20 steps": ["--inference", "lca-unrolled", "--steps", "20"],
    "amortized": ["--inference", "amortized"],
}
BATCH = {"cpu": 1000, "cuda": 16384}
UPDATES = {"cpu": 160, "cuda": 320}
RUNS = {"cpu": 3, "cuda": 1}
"""Of each number of processes, by turns: a whole run each, so few."""


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    counts = [1, 2] if setup.device == "cpu" else sorted({1, torch.cuda.device_count()})
    updates, runs = (60, 1) if setup.quick else (UPDATES[setup.device], min(setup.rounds, RUNS[setup.device]))
    for what, options in list(CASES.items())[: 1 if setup.quick else None]:
        per_datum: dict[str, list[float]] = {str(count): [] for count in counts}
        for _ in range(runs):
            for count in counts:
                fast = speed(options, count, updates, setup.device)
                per_datum[str(count)].append(1 / fast)
        for count in counts:
            yield {
                "suite": "scaling",
                "what": f"{what}, batch {BATCH[setup.device]}",
                "processes": count,
                "updates": updates,
                "data/s": spread([1 / seconds for seconds in per_datum[str(count)]]),
                "over one process": ratio(per_datum, "1", str(count)),
                "rounds": runs,
            }


def speed(options: list[str], processes: int, updates: int, device: str) -> float:
    """Data per second of a run in a temporary folder."""
    batch = BATCH[device]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
        command += ["-m", "itervae", "train", *options, "--batch-size", str(batch), "--updates", str(updates)]
        command += ["--validate-every", str(updates), "--device", device, "--run-dir", folder]
        environment = dict(os.environ)
        if device == "cpu":
            command += ["--threads", "1"]
            environment["OMP_NUM_THREADS"] = "1"
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
        return batch * updates_per_second((Path(folder) / "metrics.jsonl").read_text(encoding="utf-8"))


def updates_per_second(metrics: str) -> float:
    """Between the line of training after the first quarter and the last."""
    records = [record for line in metrics.splitlines() if (record := json.loads(line))["split"] == "train"]
    first, last = records[len(records) // 4], records[-1]
    return (last["update"] - first["update"]) / (last["seconds"] - first["seconds"])


def figure(rows: list[dict[str, Any]]) -> "Figure":
    names = list(dict.fromkeys(row["what"] for row in rows))
    lines = []
    for name in names:
        found = [row for row in rows if row["what"] == name]
        lines.append(Line(name, [row["processes"] for row in found], [row["over one process"] for row in found]))
    return lines_figure({"training one joint batch": lines}, "processes", "data/s over that of one", log=False)
