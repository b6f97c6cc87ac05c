"""The commands that need the extra `export`."""
