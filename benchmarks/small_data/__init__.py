"""Small data sets that differ on purpose, each with its own split; `benchmarks.own_data` is the command."""
