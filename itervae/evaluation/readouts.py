"""What can be read out of a code, by name."""

CODE_READOUTS = ("residual", "clamped", "mean", "root", "sample")
POINT_READOUTS = ("mean", "root")
"""Those of a sparse code, which is a point estimate."""
PIXELS = "pixels"
READOUTS = (*CODE_READOUTS, PIXELS)
"""What can be classified: read-outs of a code, and the data themselves for reference."""
