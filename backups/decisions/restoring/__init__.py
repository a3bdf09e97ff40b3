"""What a person needs to know to decide about a restore."""
