"""Instructions and system calls per operation, counted by valgrind: the same on every run."""
