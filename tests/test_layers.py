"""Who may import whom (DESIGN: from left to right, never the reverse)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "itervae"
SHARED = {
    "allocator", "arguments", "arrays", "devices", "errors", "files", "formats", "kernels", "memory", "own", "paths",
    "showing",
}  # fmt: skip
MAY_IMPORT = {
    "distributions": set(),
    "model": {"distributions"},
    "inference": {"distributions", "model"},
    "data": set(),
    "plotting": set(),
    "training": {"distributions", "model", "inference", "data", "plotting", "sequence"},
    "evaluation": {"distributions", "model", "inference", "sequence"},
    "sequence": {"distributions", "model", "inference"},
    "sklearn": {"model", "inference", "data", "training"},
    "config": {"model", "inference", "data", "training", "sequence", "options"},
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
    },
    "allocator": set(),
    "arguments": {"errors"},
    "arrays": {"errors"},
    "devices": {"errors"},
    "errors": set(),
    "files": set(),
    "formats": {"arrays", "errors", "memory"},
    "kernels": {"devices"},
    "memory": set(),
    "options": set(),
    "own": {"arguments", "errors"},
    "paths": {"errors"},
    "showing": {"errors"},
}


FLOORS = {
    "kernels": set(),
    "energies": {"kernels"},
    "systems": {"kernels", "energies"},
    "problem": {"energies"},
    "engine": {"problem"},
    "checks": {"engine"},
    "gradients": {"engine", "problem", "checks", "systems"},
    "certificates": {"problem", "checks"},
    "stopping": {"engine", "problem", "certificates", "energies"},
    "driver": {"engine", "problem", "checks", "gradients", "certificates", "stopping"},
    "compile": {"engine", "problem"},
    "engines": {"engine", "problem", "checks", "energies", "systems", "kernels"},
    "registry": {"engine", "checks", "engines"},
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


def test_importing_the_package_is_quick_and_silent():
    """Nothing heavy that training alone needs is imported with the package."""
    import subprocess
    import sys

    code = (
        "import sys, itervae; "
        "print([m for m in ('matplotlib', 'sklearn', 'torchvision', 'tensorboard', 'torch.utils.tensorboard') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert out.stderr == ""
