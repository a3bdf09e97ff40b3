"""The bot that the backups protect, against stand-ins of Shopify and Meta."""
