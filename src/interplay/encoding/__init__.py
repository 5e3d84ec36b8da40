"""From tables to batches that towers read, and from batches to vectors: what training and inference share."""
