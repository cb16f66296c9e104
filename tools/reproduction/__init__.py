"""The experiment of ``tools/reproduce``: networks, scenarios and policies on a testbed, and the report."""
