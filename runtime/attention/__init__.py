"""Which attention runs on the CPU: the session library's own, or the kernel of the room above, found by name."""
