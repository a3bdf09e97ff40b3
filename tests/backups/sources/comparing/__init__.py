"""Tests of `backups.sources.comparing`."""
