"""A stand-in for Meta's Graph API: login dialog, tokens, Pages, conversations, webhooks."""
