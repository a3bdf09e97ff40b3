"""Reading what changed from the `-wal` of large databases."""
