"""Variants of a bundle's graphs that take LoRAs as inputs."""
