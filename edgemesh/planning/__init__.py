"""Cost model, exact solver, estimates and explanation (pure)."""
