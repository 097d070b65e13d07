"""From cells to boards: statistics, ranks, tables, comparisons. Pure functions; never torch."""
