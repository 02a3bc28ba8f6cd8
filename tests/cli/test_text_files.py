"""Every text file is read and written as UTF-8, whatever the locale says."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = {"pixels.py", "config.py", "monitor.py", "reports.py"}
"""The first reads only what the kernel writes; the others are mended beside this."""
BINARY = ("Image", "av", "archive", "os")
"""What opens files that hold no text."""
FILES = [
    file
    for file in sorted([*(ROOT / "itervae").rglob("*.py"), *(ROOT / "scripts").rglob("*")])
    if file.is_file()
    and file.name not in LEFT_OUT
    and (file.suffix == ".py" or file.read_bytes().startswith(b"#!/usr/bin/env python"))
]


def unsaid(tree):
    """Lines where a text file is opened, read or written without an encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opened = name == "open" and owner not in BINARY and not any("b" in mode for mode in modes)
        if (opened or name in ("read_text", "write_text")) and not any(k.arg == "encoding" for k in node.keywords):
            yield node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_encoding_is_named(file):
    assert list(unsaid(ast.parse(file.read_text(encoding="utf-8")))) == []
