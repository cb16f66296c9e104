"""A mesh of real processes, faults by a seeded schedule, and what became of every job."""
