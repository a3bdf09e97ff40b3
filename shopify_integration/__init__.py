"""Shopify shops."""
