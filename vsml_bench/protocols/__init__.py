"""How a learner is run on lifetimes and scored: one module per protocol."""
