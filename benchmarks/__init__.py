"""What backups cost the bot: `make bench`, or `python -m benchmarks [--quick]`."""
