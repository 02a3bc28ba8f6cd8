"""Who may import whom (DESIGN: from left to right, never the reverse)."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from itervae.cli import COMMANDS

PACKAGE = Path(__file__).parents[1] / "itervae"
SHARED = {
    "allocator", "arguments", "arrays", "devices", "errors", "files", "formats", "kernels", "lazy", "memory", "own",
    "paths", "registry", "showing",
}  # fmt: skip
MAY_IMPORT = {
    "distributions": set(),
    "model": {"distributions"},
    "inference": {"distributions", "model"},
    "data": set(),
    "plotting": set(),
    "training": {"distributions", "model", "inference", "data", "plotting", "saes", "sequence"},
    "evaluation": {"distributions", "model", "inference", "sequence"},
    "sequence": {"distributions", "model", "inference"},
    "saes": {"distributions", "model", "inference"},
    "sklearn": {"model", "inference", "data", "training"},
    "config": {"model", "inference", "data", "training", "saes", "sequence", "options"},
    "cli": {
        "distributions",
        "model",
        "inference",
        "data",
        "training",
        "evaluation",
        "plotting",
        "config",
        "sequence",
        "options",
        "saes",
    },
    "allocator": set(),
    "arguments": {"errors"},
    "arrays": {"errors", "formats"},
    "devices": {"errors"},
    "errors": set(),
    "files": set(),
    "formats": {"errors", "memory"},
    "lazy": set(),
    "kernels": {"devices"},
    "memory": set(),
    "options": set(),
    "own": {"arguments", "errors"},
    "paths": {"errors"},
    "registry": set(),
    "showing": {"errors"},
}


FLOORS = {
    "kernels": set(),
    "energies": {"kernels"},
    "systems": {"kernels", "energies"},
    "problem": {"energies"},
    "settings": set(),
    "engine": {"problem", "settings"},
    "checks": {"engine"},
    "gradients": {"engine", "problem", "checks", "systems"},
    "certificates": {"problem", "checks"},
    "stopping": {"engine", "problem", "certificates", "energies"},
    "driver": {"engine", "problem", "checks", "gradients", "certificates", "stopping"},
    "compile": {"engine", "problem"},
    "engines": {"engine", "settings", "problem", "checks", "energies", "systems", "kernels"},
    "registry": {"settings", "engine", "gradients"},
    "build": {"registry", "engine", "checks"},
}
"""Within `inference`: engines and what they stand on never see the driver, nor anything below its
own floor."""


def modules(file: Path) -> set[str]:
    """What a module imports of the package, by its full name, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [node.module] if node.module != "itervae" else [f"itervae.{alias.name}" for alias in node.names]
        found |= {name for name in names if name and name.startswith("itervae.")}
    return found


def imported(file: Path) -> set[str]:
    """The parts of the package that a module imports."""
    return {name.split(".")[1] for name in modules(file)}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [
    file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.parent != PACKAGE or file.stem not in ("__init__", "__main__")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_from_left_to_right(file):
    part = part_of(file)
    assert part in MAY_IMPORT, f"{file} is in no part of the layout"
    assert imported(file) <= MAY_IMPORT[part] | {part} | SHARED


FACE = PACKAGE / "inference" / "__init__.py"
INFERENCE = [file for file in FILES if part_of(file) == "inference" and file != FACE]


@pytest.mark.parametrize("file", INFERENCE, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_floors_of_inference(file):
    floor = file.relative_to(PACKAGE / "inference").parts[0].removesuffix(".py")
    assert floor in FLOORS, f"{file} is on no floor of the layout"
    own = {name for name in modules(file) if name.split(".")[1] == "inference"}
    below = {name.split(".")[2] for name in own if name != "itervae.inference"}
    assert below <= FLOORS[floor] | {floor}
    assert "itervae.inference" not in own, f"{file} imports the registry, which imports it"


def test_no_circle_of_imports():
    """Also of modules within one floor; an import inside a function, or for types alone, counts
    too."""
    needs = {}
    for file in FILES:
        name = ".".join(("itervae", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        needs[name] = {found for found in modules(file) if found != name}
    left = dict(needs)
    while left:
        free = [name for name, found in left.items() if not found & left.keys()]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


HEAVY = ("torch", "scipy", "matplotlib", "sklearn", "numba", "av", "torchvision", "einops", "PIL", "h5py")
"""What takes long to import, and is not needed to read, to refuse or to explain a command line."""
WITHOUT = """
import contextlib, io, json, sys
class Halt:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{name} is imported")
heavy = json.loads(sys.argv[1])
sys.meta_path.insert(0, Halt())
from itervae import cli
found = []
for args in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(args)
        except SystemExit as ended:
            code = ended.code
        except ImportError as error:
            err.write(repr(error))
            code = -1
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""
EXPLAINED = [
    *([command, "--help"] for command in COMMANDS),
    ["train", "--inference", "semi-amortized", "--family", "gaussian", "--carryover", "linear", "--help-all"],
    ["figure", "relaxed-poisson", "--help"],
]
REFUSED = {
    "train --inference lca-unroled": "did you mean lca-unrolled?",
    "train --decoder mpl": "did you mean mlp?",
    "train --stepz 3": "--stepz is not a setting; did you mean --steps?",
    "train --encoder mlp": "--encoder does not apply to inference lca-unrolled",
    "train --steps 0": "steps is 0; expected a number ≥ 1",
    "train --latents 0": "latents is 0; expected a number ≥ 1",
    "train --updates 0": "updates is 0; expected a positive number",
    "train --val-share 2": "--val-share 2.0 is not a share",
    "train --data images": "--data images needs --data-path",
    "train --model sparse-coding --threshold -1": "threshold is -1.0; expected a positive number",
    "train --resume nowhere": "there is no checkpoint at nowhere",
    "train --run-dir taken": "run folder taken is not empty and holds no run",
    "train --freeze nowhere": "there is no checkpoint at nowhere",
    "gap nowhere": "there is no checkpoint at nowhere",
    "gap nowhere.npz": "there is no dictionary file at nowhere.npz",
    "gap nowhere --enginez x": "--enginez is no option of this command; did you mean --engines?",
    "evaluate nowhere --suite unit": "did you mean units?",
    "infer nowhere --input x.npy --output y.txt": "expected a name ending in .npz",
    "rate-distortion nowhere --num 1": "--num is 1; expected at least 2",
    "sequence nowhere --steps 0": "--steps is 0; expected a number ≥ 1",
    "report nowhere --num 0": "--num is 0; expected a number ≥ 2",
    "export nowhere --dictionary phi.npz": "there is no checkpoint at nowhere",
    "figure gap-stepz": "did you mean gap-steps?",
    "engine": "did you mean engines?",
}


def test_command_lines_are_read_refused_and_explained_without_torch(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    lines = EXPLAINED + [line.split() for line in REFUSED]
    command = [sys.executable, "-c", WITHOUT, json.dumps(HEAVY), json.dumps(lines)]
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    for line, (code, out, error) in zip(EXPLAINED, found, strict=False):
        assert (code, "usage: itervae" in out) == (0, True), (line, error)
    for (line, said), (code, _, error) in zip(REFUSED.items(), found[len(EXPLAINED) :], strict=True):
        assert (code, said in error) == (2, True), (line, error)


def test_no_public_name_is_that_of_a_part():
    """Where it is, to import the part would hide what goes by the name."""
    for name in ("", *(f".{file.parent.name}" for file in sorted(PACKAGE.glob("*/__init__.py")))):
        package = import_module(f"itervae{name}")
        for public in getattr(package, "__all__", ()):
            assert public in dir(package)
            parts = [Path(place) / public for place in package.__path__]
            assert not any(part.is_dir() or part.with_suffix(".py").is_file() for part in parts), (name, public)


def test_importing_the_package_is_silent():
    out = subprocess.run([sys.executable, "-c", "import itervae"], capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == ("", "")
