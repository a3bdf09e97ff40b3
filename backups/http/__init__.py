"""The routes under /admin/backups, and the metrics."""
