"""Bundles from and to the folders of Hugging Face's Optimum."""
