"""What a suite is: it measures codes, and says how its numbers look in a table and in the
figure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from itervae.evaluation.codes import Codes
    from itervae.plotting import Panel

CODES, ACCURACY = "codes", "accuracy of read-outs"
TRUTH = "beside the true dictionary"
RECONSTRUCTION = "reconstruction and free energy, nats; R² pooled | per datum"


class Suite(ABC):
    """A measure of codes. What it finds is plain: numbers, texts, None, lists and dicts of them."""

    table: ClassVar[str] = CODES
    """Title of the table that shows it, beside others of that title."""
    labelled: ClassVar[bool] = False
    """Whether it needs labels: see `LabelledSuite`."""
    of_truth: ClassVar[bool] = False
    """Whether it needs a known dictionary: see `TruthSuite`."""
    of_points: ClassVar[bool] = True
    """Whether a sparse code, a point estimate, has it too."""

    def note(self, num: int) -> str | None:
        """What cannot be measured of so many data, in words; None where all can."""
        return None

    @abstractmethod
    def cells(self, found: Any) -> dict[str, str]:
        """Heading → text, of what was found of one run; of one read-out, where the suite needs
        labels."""

    def panel(self, runs: Mapping[str, Any], readouts: Sequence[str], reference: Any) -> "Panel | None":
        """What the figure shows; None for nothing.

        Args:
            runs: name → what was found of it.
            readouts: that were asked for, in that order.
            reference: what was found of the pixels; None where it was not asked for.
        """
        return None

    @property
    def drawn(self) -> bool:
        """Whether the figure shows it."""
        return type(self).panel is not Suite.panel


class CodeSuite(Suite):
    """A suite that needs the codes alone."""

    @abstractmethod
    def measure(self, codes: "Codes", x: "Tensor") -> Any:
        """What is found of the codes of data x (N, D), N ≥ 2; None where these codes have it
        not."""


class LabelledSuite(Suite):
    """A suite that needs labels. It is measured of each read-out of a code, and of the pixels for
    reference; what it finds of a run is by read-out."""

    table = ACCURACY
    labelled = True

    @abstractmethod
    def score(self, features: "Tensor", labels: "Tensor", seed: int) -> Any:
        """What is found of one read-out.

        Args:
            features: (N, K).
            labels: classes (N,).
            seed: of what is drawn at random.
        """


class TruthSuite(Suite):
    """A suite that needs data of a known dictionary, and a model that has one."""

    table = TRUTH
    of_truth = True

    @abstractmethod
    def compare(self, atoms: "Tensor", codes: "Tensor", true_atoms: "Tensor", true_codes: "Tensor") -> Any:
        """What is found of a model.

        Args:
            atoms: its dictionary (D, K).
            codes: mean codes of the data (N, K).
            true_atoms, true_codes: those that the data were made of, (D, F) and (N, F).
        """
