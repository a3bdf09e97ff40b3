"""What the backups cost: run with `make bench`."""
