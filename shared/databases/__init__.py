"""SQLite, and the application's own two databases."""
