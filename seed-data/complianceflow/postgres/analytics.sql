INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO events (name, occurred_at, properties) VALUES
    ('declaration.submitted', now(), '{"form": "gifts"}');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO events (name, occurred_at, properties) VALUES
    ('declaration.submitted', now(), '{"form": "gifts"}');
