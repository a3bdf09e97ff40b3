"""The tests of `facebook_integration`."""
