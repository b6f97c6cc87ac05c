"""Muse as it was published: the parts of aMUSEd, and the folder that holds them."""
