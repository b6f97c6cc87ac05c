"""What a bundle's graphs need at least, on a device that is not here."""
