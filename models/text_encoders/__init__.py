"""Published text encoders, each kind with its tokenizer, whose features a translator reads."""
