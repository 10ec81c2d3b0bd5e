INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO users (email, display_name, role) VALUES
    ('ada@north.example', 'Ada North', 'administrator'),
    ('bo@north.example', 'Bo North', 'member');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO users (email, display_name, role) VALUES
    ('ada@south.example', 'Ada South', 'administrator'),
    ('bo@south.example', 'Bo South', 'member');
