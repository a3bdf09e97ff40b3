"""What a person may delete, and what goes with it."""
