"""Labelled codes in two halves, as every downstream measure has them: one to learn from, one to
score."""

from dataclasses import dataclass

from torch import Tensor

from itervae.errors import InputError


@dataclass(frozen=True)
class Halves:
    """Features (N/2, K) and classes (N/2,) of both halves; classes are numbered 0 … `classes` − 1
    in their order."""

    first: Tensor
    first_classes: Tensor
    second: Tensor
    second_classes: Tensor
    classes: int

    def standardized(self) -> tuple[Tensor, Tensor]:
        """The features of both halves, in units of standard deviations of the first, from its mean;
        float64.

        A feature that is constant in the first half is only centred.
        """
        first, second = self.first.double(), self.second.double()
        mean, scale = first.mean(0), first.std(0, correction=0)
        scale = scale.where(scale > 0, 1.0)
        return (first - mean) / scale, (second - mean) / scale


def halves(features: Tensor, labels: Tensor) -> Halves:
    """Divide labelled features in two.

    Args:
        features: (N, K), N ≥ 2.
        labels: classes (N,), whole numbers, in any order.

    Raises:
        InputError: shapes that do not fit, features that are not finite, a single class, or a class
            in the second half that the first does not have.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 2:
        raise InputError(
            f"features have shape {tuple(features.shape)} and labels {tuple(labels.shape)}; expected (N, K) and (N,) "
            "with N of at least 2"
        )
    if bad := int((~features.isfinite()).any(1).sum()):
        raise InputError(
            f"the code of {bad} of {len(features)} data is not finite; expected finite values: use another engine, or "
            "train again with a lower learning rate"
        )
    middle = len(features) // 2
    names, classes = labels.to(features.device).unique(return_inverse=True)
    if len(names) < 2:
        raise InputError(f"all labels are {names.tolist()}; expected at least two classes to tell apart")
    first, second = classes[:middle], classes[middle:]
    missing = sorted(set(second.tolist()) - set(first.tolist()))
    if missing:
        raise InputError(
            f"class {names[missing[0]].item()} is in the second half of the {len(features)} data and not in the first, "
            "which is learned from; use more data, or shuffle them"
        )
    return Halves(features[:middle], first, features[middle:], second, len(names))
