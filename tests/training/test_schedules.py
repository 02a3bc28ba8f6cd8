"""Schedules at the points where their values are known."""

import pytest

from itervae.training import Schedule


def test_learning_rate():
    schedule = Schedule(lr=0.005, beta=1.0, beta_ramp=0.0, temperature=0.05)
    assert schedule.lr_at(0.0) == pytest.approx(5e-5)  # a hundredth
    assert schedule.lr_at(0.01) == pytest.approx(0.005)
    assert schedule.lr_at(0.505) == pytest.approx((0.005 + 1e-5) / 2, rel=1e-3)  # half a cosine, half way
    assert schedule.lr_at(1.0) == pytest.approx(1e-5)
    rates = [schedule.lr_at(i / 1000) for i in range(10, 1001)]
    assert rates == sorted(rates, reverse=True)


def test_beta_and_temperature():
    schedule = Schedule(lr=0.005, beta=2.0, beta_ramp=0.5, temperature=0.05)
    assert schedule.beta_at(0.0) == pytest.approx(2e-4)
    assert schedule.beta_at(0.25) == pytest.approx(1.0, rel=1e-3)
    assert schedule.beta_at(0.5) == schedule.beta_at(1.0) == 2.0
    assert Schedule(0.005, 2.0, 0.0, 0.05).beta_at(0.0) == 2.0
    assert schedule.temperature_at(0.0) == 1.0
    assert schedule.temperature_at(0.25) == pytest.approx(0.525)
    assert schedule.temperature_at(0.5) == schedule.temperature_at(1.0) == pytest.approx(0.05)
