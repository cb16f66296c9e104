"""A whole mesh under a virtual clock: the real roles on a modelled broker, modelled links and boards."""
