"""Reads what authors publish: checkpoints, configurations, tokenizers."""
