"""Bad inputs by the thousand, and what x2i must do with each: draw, or refuse in a line. See `make hostile`."""
