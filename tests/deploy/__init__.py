"""Tests of what is in `deploy/`: rules, dashboard, image, units."""
