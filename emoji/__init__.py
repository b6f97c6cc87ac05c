"""The reference world: small relatives of every system, drawn from a colour-emoji font, and their judges."""

from x2i.runtime import telemetry as telemetry
