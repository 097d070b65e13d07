"""Meta-training: how meta-parameters are found."""
