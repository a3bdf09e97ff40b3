"""What the plan of a restore needs from this host beside the restore point itself."""
