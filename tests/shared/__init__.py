"""Tests of `shared`, one file for each module."""
