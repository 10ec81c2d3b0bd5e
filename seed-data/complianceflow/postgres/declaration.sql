INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO declarations (user_id, form_code, status, answers) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'ada'), 'gifts', 'submitted', '{"amount": 120}');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO declarations (user_id, form_code, status, answers) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'ada'), 'gifts', 'submitted', '{"amount": 120}');
