"""What a person decides about single sets."""
