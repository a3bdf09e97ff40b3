"""What becomes of the points of a chain: packed, checked, removed when nothing needs them."""
