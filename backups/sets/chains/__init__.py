"""What this host knows of the chains in the store."""
