"""Walks through tokens: how ids are drawn, redrawn and revealed, from what a network says of them."""
