"""Retrieval: the retriever, streams of sessions, score matrices."""
