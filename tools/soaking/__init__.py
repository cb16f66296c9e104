"""Load that lasts: more than a mesh can do for a minute, and enough of it to show what grows."""
