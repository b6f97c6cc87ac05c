"""From a bundle in fp32 to one in lower precision."""
