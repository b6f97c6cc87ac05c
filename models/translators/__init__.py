"""GlueNet's translators, and the multilingual encoder that they read."""
