"""The commands of `python -m backups`."""
