"""Transformers over tokens: their modules, and the layouts of their checkpoints."""
