"""What is given as text: the prompt, and what stands in it."""
