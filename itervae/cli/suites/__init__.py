"""The suites of `itervae evaluate` by name. A new one is a file here and a line below."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from itervae.cli.suites.base import CodeSuite, LabelledSuite, Suite, TruthSuite
from itervae.registry import Listed, Registry

if TYPE_CHECKING:
    from torch import Tensor

    from itervae.evaluation.codes import Codes

HERE = "itervae.cli.suites"
SUITES: Registry[Suite] = Registry(
    {
        "units": Listed(f"{HERE}.units:UNITS"),
        "sparsity": Listed(f"{HERE}.sparsity:SPARSITY"),
        "knn": Listed(f"{HERE}.neighbours:NEIGHBOURS"),
        "shattering": Listed(f"{HERE}.shattering:SHATTERING"),
        "readout": Listed(f"{HERE}.readout:READOUT"),
        "truth": Listed(f"{HERE}.truth:TRUTH"),
        "reconstruction": Listed(f"{HERE}.reconstruction:RECONSTRUCTION"),
    }
)


def measure(codes: "Codes", x: "Tensor", names: Iterable[str]) -> dict[str, Any]:
    """The suites that need no labels, of those named: suite → what it finds, where the codes have
    it.

    Args:
        codes: of the data x (N, D), N ≥ 2.
        names: some of `SUITES`.
    """
    suites = {name: suite for name in SUITES if name in set(names) and isinstance(suite := SUITES[name], CodeSuite)}
    found = {name: suite.measure(codes, x) for name, suite in suites.items()}
    return {name: values for name, values in found.items() if values is not None}


def labelled(names: Iterable[str]) -> dict[str, LabelledSuite]:
    """The suites that need labels, of those named."""
    return {name: suite for name in SUITES if name in set(names) and isinstance(suite := SUITES[name], LabelledSuite)}


def comparing(names: Iterable[str]) -> dict[str, TruthSuite]:
    """The suites that need a known dictionary, of those named."""
    return {name: suite for name in SUITES if name in set(names) and isinstance(suite := SUITES[name], TruthSuite)}


__all__ = ["SUITES", "CodeSuite", "LabelledSuite", "Suite", "TruthSuite", "comparing", "labelled", "measure"]
