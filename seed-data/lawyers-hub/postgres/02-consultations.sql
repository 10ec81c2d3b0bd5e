INSERT INTO consultations (lawyer_id, client, starts_at)
SELECT 1 + n % 3, 'Client ' || n, date_trunc('hour', now()) + n * interval '1 hour' FROM generate_series(1, 30) AS n;
SELECT setval(pg_get_serial_sequence('lawyers', 'id'), (SELECT max(id) FROM lawyers));
