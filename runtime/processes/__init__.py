"""What a plan walks: latents or tokens, one loop a kind, each a generator of steps."""
