"""From a bundle to a picture, without torch: `load(folder)` gives a Pipeline."""

from . import telemetry as telemetry
from .errors import InputError
from .load import load
from .media.parameters import Parameters
from .media.picture_files import read_parameters
from .output import Output, Step
from .pipeline import Pipeline

__all__ = ["InputError", "Output", "Parameters", "Pipeline", "Step", "load", "read_parameters"]
