"""Layouts: which things are drawn where, as boxes."""
