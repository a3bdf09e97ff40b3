"""What lies in the bucket: names, manifests, and what the old scripts left; pure."""
