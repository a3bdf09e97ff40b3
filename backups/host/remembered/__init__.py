"""What a host remembers in the table `facts` of `runs.db`."""
