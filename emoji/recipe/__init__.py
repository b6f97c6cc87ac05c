"""The training stages of the base: autoencoder, encoders, denoiser, translators."""
