"""A small T5 in front of the unchanged base: its words, its two stages, and what is published of them."""
