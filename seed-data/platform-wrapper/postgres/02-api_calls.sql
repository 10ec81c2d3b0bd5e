INSERT INTO api_calls (account_id, path, status, duration_ms)
SELECT 1 + n % 3, '/v1/things/' || n, CASE WHEN n % 50 = 0 THEN 500 ELSE 200 END, 5 + n % 200 FROM generate_series(1, 1000) AS n;
SELECT setval(pg_get_serial_sequence('accounts', 'id'), (SELECT max(id) FROM accounts));
