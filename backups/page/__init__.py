"""The page for the person who looks after the backups: `GET /admin/` and what belongs to it."""
