"""All token samplers. A new one is entered here, and nowhere else."""

from typing import Any

TokenSamplerRecord = Any
