"""Embeddings of many items: partitions are planned, decoded by worker processes, encoded and written whole."""
