"""Many trainings side by side: grids of cells, their tables, the papers' experiments and recipes."""
