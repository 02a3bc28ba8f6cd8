"""Residual blocks of encoders."""

from torch import Tensor, nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""Convolutional layers by the number of dimensions."""


class Residual(nn.Module):
    """A residual block x + f(x) of two convolutions of width 3 at constant size."""

    def __init__(self, channels: int, dimensions: int = 2) -> None:
        super().__init__()
        kind = CONVOLUTIONS[dimensions]
        self.layers = nn.Sequential(
            nn.SiLU(),
            kind(channels, channels, 3, padding=1),
            nn.SiLU(),
            kind(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
