"""What turns one set of weights into the folder that each peer reads, run by the environment that can."""
