"""What is known of the families before torch is imported: the soft indicators of relaxed counts and
what makes Gaussian latents non-negative, by name."""

from typing import Any

from itervae.registry import Listed, Registry

MAX_LOG_RATE = 10.0
"""`rsample` and `sample` refuse larger log-rates: e^10 = 22026 spikes per unit is a diverged model,
not a code."""
HERE = "itervae.distributions"
INDICATORS: Registry[Any] = Registry(
    {"cubic": Listed(f"{HERE}.arrivals:CUBIC"), "sigmoid": Listed(f"{HERE}.arrivals:SIGMOID")}
)
ACTIVATIONS: Registry[Any] = Registry(
    {
        "none": Listed(f"{HERE}.gaussian:Gaussian"),
        "relu": Listed(f"{HERE}.gaussian:RectifiedGaussian"),
        "exp": Listed(f"{HERE}.gaussian:LogNormal"),
    }
)
