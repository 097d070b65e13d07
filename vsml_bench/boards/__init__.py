"""From cells to boards: groups, columns, statistics, tables, comparisons. Pure functions; never
torch."""
