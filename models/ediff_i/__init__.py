"""eDiff-I (arXiv 2211.01324): denoisers that are experts for a range of noise each, and their context."""
