INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO cases (declaration_id, status, summary) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'declaration-1'), 'open', 'A gift over the limit');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO cases (declaration_id, status, summary) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'declaration-1'), 'open', 'A gift over the limit');
