"""Parts of learning what the store has."""
