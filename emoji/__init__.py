"""The reference world: small relatives of every system, drawn from a colour-emoji font, and their judges."""
