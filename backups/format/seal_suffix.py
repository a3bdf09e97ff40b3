"""What the suffix of a sealed file says. Pure."""

from __future__ import annotations


def is_encrypted(suffix: str) -> bool:
    """Whether a file with this suffix needs an identity to be opened."""
    return suffix.endswith(".age")
