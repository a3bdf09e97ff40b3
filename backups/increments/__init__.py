"""Following changes: proven increments of the live databases, and their replay."""
