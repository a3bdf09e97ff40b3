"""Stand-ins for the platforms that no test can run: a Graph API and a Shopify, one process each."""
