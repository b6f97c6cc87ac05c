"""What every form of the op agrees on: its name and inputs in a graph."""

NAME = "BiasedAttention"
"""In the domain of `injected_attention.op`, whose version and further attributes it has too."""
INPUTS = ("query", "key", "value", "bias", "gain_max", "gain_deviation", "key_bias")
"""The node's inputs in their order; `reference.biased_attention` says what each holds."""
IN_SINGLE = frozenset(INPUTS[3:])
"""Those that are float32 whatever the query is."""
