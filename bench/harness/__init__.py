"""What asks the peers in turns, keeps their answers and prints the table."""
