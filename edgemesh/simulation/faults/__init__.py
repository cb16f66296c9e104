"""Deterministic fault simulator: seeded schedules of faults, and rules that must hold whatever happens."""
