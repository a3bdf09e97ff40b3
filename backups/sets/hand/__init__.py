"""Files in hand: a download, a local copy, or a folder of the old scripts, read as a store."""
