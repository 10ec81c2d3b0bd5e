CREATE TABLE rules (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    code text NOT NULL,
    expression text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX rules_code ON rules (tenant_id, code);
CREATE INDEX rules_active ON rules (tenant_id) WHERE is_active;

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE rules FORCE ROW LEVEL SECURITY;
CREATE POLICY rules_of_tenant ON rules USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
