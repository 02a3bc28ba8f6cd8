"""Who may import whom (DESIGN: from left to right, never the reverse)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "itervae"
SHARED = {"allocator", "arguments", "arrays", "errors", "files", "paths"}
MAY_IMPORT = {
    "distributions": set(),
    "model": {"distributions"},
    "inference": {"distributions", "model"},
    "data": set(),
    "plotting": set(),
    "training": {"distributions", "model", "inference", "data", "plotting", "sequence"},
    "evaluation": {"distributions", "model", "inference", "sequence"},
    "sequence": {"distributions", "model", "inference"},
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
    "errors": set(),
    "files": set(),
    "options": set(),
    "paths": {"errors"},
}


def imported(file: Path) -> set[str]:
    """The parts of the package that a module imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [node.module] if node.module != "itervae" else [f"itervae.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name and name.startswith("itervae.")}
    return found


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
