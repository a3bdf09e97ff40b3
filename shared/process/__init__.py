"""The process itself: its signals and its responsiveness."""
