"""The asv suite: speed, memory and error rate from commit to commit. It uses what every commit has,
the contract and the registry, and all of its figures are better when lower."""
