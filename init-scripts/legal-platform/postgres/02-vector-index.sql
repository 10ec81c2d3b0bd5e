-- Built without locking writers, as in production; this cannot run in a transaction.
CREATE INDEX CONCURRENTLY documents_embedding ON documents USING hnsw (embedding vector_cosine_ops);
