"""AudioCLIP's audio branch."""
