"""Kernels of Triton compiled for a GPU that is not there: an H200."""

import inspect
from typing import Any

import pytest
import torch

KINDS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64", int: "i32", float: "fp32"}


def compiled(kernel: Any, given: tuple[Any, ...], constants: dict[str, Any]) -> Any:
    """What Triton makes of a kernel that is called with these arguments."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if "constexprs" not in inspect.signature(ASTSource.__init__).parameters:
        pytest.skip("an older Triton, which takes other arguments")
    options = {name: value for name, value in constants.items() if name not in kernel.arg_names}
    named = dict(zip(kernel.arg_names, given, strict=False)) | constants
    fixed = {param.name: named[param.name] for param in kernel.params if param.is_constexpr}
    signature = {
        name: "constexpr" if name in fixed else KINDS[getattr(named[name], "dtype", type(named[name]))]
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
