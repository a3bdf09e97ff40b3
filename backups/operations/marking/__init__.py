"""Marks of a later time: on what lay in the store before there were marks, or under older keys."""
