"""Backups of the bot's databases: taken, stored, read back, proven, kept, brought back."""
