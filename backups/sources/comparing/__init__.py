"""Comparing live databases with copies of them."""
