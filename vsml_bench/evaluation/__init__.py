"""Runs learners on pinned lifetimes and records what came out, cell by cell."""
