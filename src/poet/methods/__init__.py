"""The paper's method and what it is compared with: objective x weighting x truncation.

Each choice is one record, with its functions and its parameters; the configuration, the trainer,
the analyses and the figures read it there. Nothing here needs torch before it computes.
"""

SIDES = ("chosen", "rejected")  # the responses of a pair, in this order everywhere

# What a parameter may be, as JSON schema.
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
NOT_NEGATIVE = {"type": "number", "minimum": 0}
