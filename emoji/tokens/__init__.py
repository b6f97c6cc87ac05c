"""Stages of the small systems that draw token by token: the pictures' tokenizer, two painters and a captioner."""
