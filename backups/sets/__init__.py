"""The sets in the store: sealed, stored, proven, listed."""
