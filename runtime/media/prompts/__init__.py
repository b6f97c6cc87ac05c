"""How a prompt is read: cleaned, taken apart by weights and windows, and what in it is another program's."""
