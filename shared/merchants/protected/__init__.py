"""What a platform asks for once only: to forget a shop, a person, a connection."""
