"""Power meters inside the machine, one module each; ``meters`` has their table."""
