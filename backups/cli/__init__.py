"""The commands of `./bot backups`."""
