"""Serving trained methods: the models of a folder, batches that mix them, and HTTP around both."""
