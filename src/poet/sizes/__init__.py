"""How large models are, what they take of memory, and what fits into a pass."""
