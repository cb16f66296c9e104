"""A mesh of real processes on one machine, its links and boards shaped: what ``tools/testbed`` is made of."""
