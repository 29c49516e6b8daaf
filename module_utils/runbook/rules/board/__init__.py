"""The board: what became of each operation, what is due, and the evidence of a quarter."""
