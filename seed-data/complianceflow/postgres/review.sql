INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO reviews (declaration_id, reviewer_id, decision, remark) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'declaration-1'), uuid_generate_v5(uuid_ns_url(), 'bo'), NULL, NULL);

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO reviews (declaration_id, reviewer_id, decision, remark) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'declaration-1'), uuid_generate_v5(uuid_ns_url(), 'bo'), NULL, NULL);
