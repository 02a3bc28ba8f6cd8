"""Curves against the records that they are drawn from."""

import math

import numpy as np
import pytest

from itervae.errors import InputError
from itervae.plotting import save, training_figure


def run(updates=200):
    records = []
    for update in range(1, updates + 1):
        energy = 100 + 1e6 * math.exp(-update)
        line = {
            "free_energy": energy,
            "reconstruction": energy - 30,
            "kl": 30.0,
            "spikes": 12.0,
            "residual": 1 / update,
        }
        line |= {"lr": 1e-3, "beta": min(1.0, update / 50), "temperature": 0.5, "seconds": 0.1 * update}
        records.append({"split": "train", "update": update, **line})
        if update % 50 == 0:
            held = {"free_energy": 110.0, "reconstruction": 79.0, "kl": 31.0, "spikes": 12.5, "certificate": 2 / update}
            records.append({"split": "validation", "update": update, **held})
    return records


def panels(figure):
    return {axes.get_ylabel(): axes for axes in figure.axes if axes.axison}


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_lines_hold_the_records():
    records = run()
    found = panels(training_figure(records))
    assert list(found) == [
        "free energy (nats per datum)",
        "nats per datum",
        "spikes per datum",
        "certificate of inference (nats)",
        "schedule / its largest value",
    ]
    for label, line, split, key in [
        ("free energy (nats per datum)", "free energy, train", "train", "free_energy"),
        ("free energy (nats per datum)", "free energy, validation", "validation", "free_energy"),
        ("nats per datum", "reconstruction, train", "train", "reconstruction"),
        ("nats per datum", "KL, validation", "validation", "kl"),
        ("spikes per datum", "spikes, train", "train", "spikes"),
        ("certificate of inference (nats)", "residual, train", "train", "residual"),
        ("certificate of inference (nats)", "residual, validation", "validation", "certificate"),
    ]:
        of_split = [record for record in records if record["split"] == split]
        drawn = lines(found[label])[line]
        np.testing.assert_array_equal(drawn.get_xdata(), [record["update"] for record in of_split])
        np.testing.assert_array_equal(drawn.get_ydata(), [record[key] for record in of_split])
    beta = lines(found["schedule / its largest value"])["β, largest 1"]
    np.testing.assert_array_equal(beta.get_ydata(), [min(1.0, update / 50) for update in range(1, 201)])
    assert found["certificate of inference (nats)"].get_yscale() == "log"
    assert all(axes.get_xlabel() == "updates" for axes in found.values())


def test_the_start_and_outliers_do_not_flatten_the_rest():
    records = run()
    records[150]["free_energy"] = 1e9
    low, high = panels(training_figure(records))["free energy (nats per datum)"].get_ylim()
    assert low < 100
    assert 110 < high < 200


def test_missing_keys_leave_their_panel_out():
    records = [{"update": 1, "kl": 3.0}, {"update": 2, "kl": 2.0}, {"kl": 1.0}, {"update": 3}]
    (axes,) = panels(training_figure(records)).values()
    assert list(lines(axes)) == ["KL, train"]
    np.testing.assert_array_equal(lines(axes)["KL, train"].get_xdata(), [1, 2])


def test_values_that_are_not_finite_are_left_out_and_marked():
    values = [3.0, None, math.nan, math.inf, "text", 1.0]
    records = [{"update": u, "free_energy": v, "residual": v} for u, v in enumerate(values)]
    records += [{"update": 6, "residual": 0.0}, {"update": 7, "residual": -1.0}]
    found = panels(training_figure(records))
    energy = lines(found["free energy (nats per datum)"])
    np.testing.assert_array_equal(energy["free energy, train"].get_xdata(), [0, 5])
    np.testing.assert_array_equal(energy["free energy, train"].get_ydata(), [3, 1])
    np.testing.assert_array_equal(energy["not finite"].get_xdata(), [1, 2, 3])
    residual = lines(found["certificate of inference (nats)"])
    assert list(residual) == ["residual, train"]
    np.testing.assert_array_equal(residual["residual, train"].get_ydata(), [3, 1])


def test_certificates_near_the_largest_number_are_cut_off(tmp_path):
    """Those of a run that was drawn only after a crash: log-scales are not laid out at 1e300."""
    figure = training_figure([{"update": u, "residual": v} for u, v in enumerate((1e-3, 9.5e263, 1e300, 2.0))])
    save(figure, tmp_path / "curves.png")
    axes = panels(figure)["certificate of inference (nats), cut at 1e+06"]
    assert axes.get_ylim()[1] == 1e6


@pytest.mark.parametrize(
    "records",
    [
        run(1),
        [{"split": "validation", "update": 3, "free_energy": -5.0}],
        [{"update": 0, "free_energy": 0.0}],
        [{"update": 1, "lr": 0.0}],
        [{"update": 1, "residual": 1e-12}],
        [{"update": np.int64(1), "spikes": np.float32(2.0)}, {"update": 1, "spikes": 2.0}],
    ],
)
def test_few_records_are_drawn(records, tmp_path):
    save(training_figure(records), tmp_path / "curves.png")


@pytest.mark.parametrize("records", [[], [{}], [{"update": 1, "free_energy": None}], [{"update": None, "kl": 1.0}]])
def test_records_without_a_value_are_refused(records):
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        training_figure(records)
