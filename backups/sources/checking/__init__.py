"""Whether a copy of a database is sound, and what it holds."""
