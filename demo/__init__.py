"""`make demo`: the whole system on this machine, from a flag state to SQL over its exposures."""
