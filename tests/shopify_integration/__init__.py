"""The tests of `shopify_integration`."""
