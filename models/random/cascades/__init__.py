"""Systems of several networks in turn, with random weights."""
