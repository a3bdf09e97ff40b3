"""One recorded run: its lease, log, deadline and progress."""
