"""CLIP's two towers and its tokenizer."""
