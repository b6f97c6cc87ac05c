"""Which run a picture came from, and how it is drawn again."""
