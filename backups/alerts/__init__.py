"""Who is notified, and how."""
