"""Files of the caller's and our own: read with a guard, written whole or not at all."""
