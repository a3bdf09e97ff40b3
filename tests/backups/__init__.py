"""Tests of `backups`, one file for each module."""
