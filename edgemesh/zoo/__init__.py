"""Ready models: pinned sources outside this repository, with their treatment, and networks built here."""
