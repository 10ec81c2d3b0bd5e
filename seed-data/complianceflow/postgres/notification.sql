INSERT INTO tenants (id, name) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'north'), 'North'),
    (uuid_generate_v5(uuid_ns_url(), 'south'), 'South');

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'north')::text, true);
INSERT INTO notifications (user_id, channel, body, sent_at) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'ada'), 'email', 'Your declaration is in review', NULL);

SELECT set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), 'south')::text, true);
INSERT INTO notifications (user_id, channel, body, sent_at) VALUES
    (uuid_generate_v5(uuid_ns_url(), 'ada'), 'email', 'Your declaration is in review', NULL);
