-- Embeddings that can be told apart: each points mostly along a direction of its own.
INSERT INTO documents (case_id, kind, name, storage_key, content, embedding)
SELECT '00000000-0000-4000-8000-000000000011', (ARRAY['brief', 'contract', 'evidence', 'correspondence']::document_kind[])[1 + n % 4],
       'document-' || n || '.pdf', 'cases/2026-0001/document-' || n || '.pdf', 'Lease of the old mill, part ' || n,
       (SELECT array_agg(CASE WHEN i % 20 = n THEN 0.9 ELSE 0.01 END ORDER BY i) FROM generate_series(1, 1536) AS i)::vector(1536)
FROM generate_series(0, 19) AS n;
