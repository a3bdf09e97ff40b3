"""Notes of a person beside a manifest."""
