"""A stand-in for Shopify: installation, expiring tokens, the GraphQL Admin API, webhooks."""
