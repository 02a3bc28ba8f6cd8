"""What `itervae gap` does of a sparse autoencoder beside the gap of engines: a threshold where none
is named, and its encoder against the least error at no larger L1."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from rich import box
from rich.table import Table

from itervae.cli.runs import Target
from itervae.cli.show import console, print_table
from itervae.errors import InputError
from itervae.evaluation import EncoderLoss, encoder_loss, fitted_threshold
from itervae.evaluation.frontiers import FITTED_ON, encoded
from itervae.plotting import frontier_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def priced(target: Target, x: torch.Tensor) -> str:
    """Set the threshold where none was named; what was set, in a line."""
    if target.priced:
        return ""
    model, some = target.model, x[:FITTED_ON]
    weight = encoded(model, target.engine, some).double().abs().sum(1).mean().item()
    threshold, norm = fitted_threshold(model, some, weight)
    model.prior.threshold.fill_(threshold)  # pyright: ignore[reportCallIssue]
    return (
        f"no threshold was named: {threshold:.4g} was fitted, at which the mean weighted L1 of the best codes is "
        f"{norm:.4g}, and that of the encoder's {weight:.4g}, over {len(some)} data"
    )


def loss_of(target: Target, x: torch.Tensor, advance: Callable[[int], None]) -> EncoderLoss:
    """The encoder against the least error at no larger L1."""
    return encoder_loss(target.model, target.engine, x, advance=advance)


def frontier_drawn(loss: EncoderLoss) -> "Figure":
    """The figure of error against weighted L1, of the data that the frontier is of: the encoder,
    and the best codes of no larger norm than its own, datum by datum."""
    if not loss.frontier:
        raise InputError("the encoder leaves all units of these data silent, so there is no frontier; name other data")
    curve = [(point.weight, point.error, point.proved, point.threshold) for point in loss.frontier]
    norm, error, least = (loss.arrays[name][:FITTED_ON].mean().item() for name in ("weight", "error", "least"))
    return frontier_figure(curve, {"encoder": (norm, error), "best codes, the L1 of each datum kept": (norm, least)})


def print_loss(loss: EncoderLoss) -> None:
    """The encoder beside the best codes of no larger weighted L1."""
    title = f"the encoder against the best codes of no larger weighted L1 ({loss.num} data)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("codes", no_wrap=True)
    for heading in ("unexplained", "error", "L1", "L0", "L0 p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = (
        ("encoder", loss.unexplained, loss.error_mean, loss.weight_mean, loss.active_mean, loss.active_p99),
        ("best", loss.unexplained_least, loss.least_mean, None, loss.least_active_mean, loss.least_active_p99),
        ("proved least", loss.unexplained_proved, loss.proved_mean, None, None, None),
    )
    for name, share, error, weight, active, tail in rows:
        numbers = (f"{error:.4g}", *("" if value is None else f"{value:.4g}" for value in (weight, active, tail)))
        table.add_row(name, f"{100 * share:.3g}%", *numbers)
    print_table(table, ("L0 p99",))
    out = console()
    shares = (loss.removable_median, loss.removable_p90, loss.removable_p99, loss.removable_max)
    median, p90, p99, largest = (f"{100 * value:.3g}%" for value in shares)
    out.print(
        f"inference alone could remove {100 * loss.removable:.3g}% of the encoder's error at no larger L1; of a datum "
        f"{median} in the median, p90 {p90}, p99 {p99}, at most {largest}",
        soft_wrap=True,
    )
    out.print(
        f"proved per datum, to {loss.certificate_max:.1g} of the encoder's error at most"
        + (f"; {loss.not_proved} of {loss.num} data did not reach 1e-4" if loss.not_proved else ""),
        soft_wrap=True,
    )
