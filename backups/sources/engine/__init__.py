"""Where the live data is: in the files that are the sources, or in a database of several hosts."""
