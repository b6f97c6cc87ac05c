"""LoRA files: low-rank changes of a base's layers, in the key forms of diffusers, PEFT, kohya and LyCORIS."""
