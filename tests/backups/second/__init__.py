"""Tests of the second place."""
