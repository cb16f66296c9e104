"""Worker, requester, gateway and decider as state machines (pure)."""
