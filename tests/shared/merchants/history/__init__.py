"""Tests of `shared.merchants.history`."""
