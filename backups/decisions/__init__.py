"""What is decided, from arguments alone: retention, health, due runs; pure."""
