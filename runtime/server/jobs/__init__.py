"""What is asked of a server: jobs, the queue that they wait in, and the threads that draw them."""
