"""Pure bytes <-> values: no I/O, no state."""
