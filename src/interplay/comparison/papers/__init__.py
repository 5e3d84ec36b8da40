"""The tables of the papers: recipes of `interplay reproduce`, their cells, and the experiments as grids."""
