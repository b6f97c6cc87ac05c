"""M-VADER's encoder (arXiv 2212.02936): texts and pictures in one sequence, read by a language model."""
