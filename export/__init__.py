"""From torch to a bundle: the graphs of a system, their precisions, and the proof of each."""

from x2i.runtime import telemetry as telemetry
