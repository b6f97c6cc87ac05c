"""Words painted onto places: regions, their maps, and how strongly they count."""
