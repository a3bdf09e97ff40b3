"""Tests of `backups.sources.checking`."""
