"""Units, cuts, boundaries and slicing of models (pure)."""
