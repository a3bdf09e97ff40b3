"""The second place: a bucket that gets a copy of what is published, and is never deleted from."""
