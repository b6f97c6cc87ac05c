"""What a caller gives, one module a kind of input."""
