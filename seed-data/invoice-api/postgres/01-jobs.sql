INSERT INTO api_keys (id, name, key_hash) VALUES
    (1, 'demo', sha256('demo-key')),
    (2, 'load', sha256('load-key'));
SELECT setval(pg_get_serial_sequence('api_keys', 'id'), 2);

-- A day's work: 3,000 jobs, most of them done.
INSERT INTO jobs (api_key_id, status, payload, attempts, created_at, started_at, finished_at)
SELECT 1 + n % 2, CASE WHEN n % 100 = 0 THEN 'failed' WHEN n > 2950 THEN 'queued' ELSE 'succeeded' END::job_status,
       jsonb_build_object('invoice', n, 'pages', 1 + n % 9), CASE WHEN n > 2950 THEN 0 ELSE 1 END,
       now() - (3000 - n) * interval '28.8 seconds',
       CASE WHEN n <= 2950 THEN now() - (3000 - n) * interval '28.8 seconds' END,
       CASE WHEN n <= 2950 THEN now() - (3000 - n) * interval '28.8 seconds' + interval '2 seconds' END
FROM generate_series(1, 3000) AS n;

INSERT INTO job_results (job_id, result)
SELECT id, jsonb_build_object('total', (payload ->> 'invoice')::int * 10) FROM jobs WHERE status = 'succeeded';
