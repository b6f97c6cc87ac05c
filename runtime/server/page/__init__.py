"""The page: its sources, and what joins them into one text."""
