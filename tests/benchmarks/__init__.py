"""Tests of `benchmarks`: that it runs and counts right, never how long something takes."""
