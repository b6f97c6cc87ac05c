"""What is compared: a script for every stack, run by its own environment's Python."""
