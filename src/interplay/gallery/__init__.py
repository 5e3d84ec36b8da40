"""A gallery of embeddings on Milvus: ingest, search, refresh."""
