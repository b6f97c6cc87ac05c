"""Few steps and a tiny decoder for the embedded base."""
