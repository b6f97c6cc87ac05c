"""Codecs: pictures and sounds to tokens, and back."""
