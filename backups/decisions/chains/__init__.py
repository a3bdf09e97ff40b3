"""What of a chain is needed, kept, and chosen: increments that hang on a full. Pure."""
