"""Search over settings on validation."""
