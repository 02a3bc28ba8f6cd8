"""Lets the tests of this folder import `published_sampler`, which lies one folder up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
