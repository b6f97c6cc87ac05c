"""unCLIP as it was published: Karlo's prior, decoder and super resolution."""
