"""BACKUP_DIR and what this host remembers."""
