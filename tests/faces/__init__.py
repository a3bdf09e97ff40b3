"""The faces: command line, HTTP, scheduler, start, `make`, each in a process of its own."""
