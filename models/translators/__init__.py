"""GlueNet's translators, from an encoder's features to the context of a denoiser."""
