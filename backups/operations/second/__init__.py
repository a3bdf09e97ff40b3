"""Copying to the second place, and comparing the two."""
