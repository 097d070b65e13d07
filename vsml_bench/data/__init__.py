"""Where examples come from: datasets, transforms and seeded streams of lifetimes."""
