"""Tests, laid out as the packages are; `support` has the real servers they run against."""
