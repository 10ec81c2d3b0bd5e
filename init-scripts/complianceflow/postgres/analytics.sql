CREATE TABLE events (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    name text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    properties jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX events_time ON events USING brin (occurred_at);
CREATE INDEX events_name ON events (tenant_id, name, occurred_at DESC);

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY events_of_tenant ON events USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
