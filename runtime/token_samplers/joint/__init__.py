"""A picture and its caption in one state of tokens."""
