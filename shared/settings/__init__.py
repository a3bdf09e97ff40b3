"""The environment, read once into frozen records."""
