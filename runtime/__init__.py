"""From a bundle to a picture, without torch: `load(folder)` gives a Pipeline."""

from .errors import InputError
from .load import load
from .pipeline import Output, Pipeline, Step

__all__ = ["InputError", "Output", "Pipeline", "Step", "load"]
