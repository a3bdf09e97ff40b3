"""A made-up platform, Acme, and the app with it."""
