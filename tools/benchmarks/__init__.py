"""Benchmarks whose claims are ratios to a baseline measured in the same run."""
