"""What is said of the second place."""
