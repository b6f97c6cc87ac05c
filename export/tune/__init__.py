"""Finds a preset for a bundle on this device."""
