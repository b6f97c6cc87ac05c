"""The examples, as their users run them."""
