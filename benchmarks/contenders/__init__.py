"""Who is measured: our own ways to run a backup, and the programs that people use instead."""
