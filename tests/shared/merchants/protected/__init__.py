"""Tests of requests that a platform sends once only."""
