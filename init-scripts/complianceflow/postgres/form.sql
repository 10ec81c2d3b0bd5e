CREATE TABLE forms (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    code text NOT NULL,
    version int NOT NULL DEFAULT 1,
    title text NOT NULL,
    fields jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX forms_code ON forms (tenant_id, code, version);

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE forms ENABLE ROW LEVEL SECURITY;
ALTER TABLE forms FORCE ROW LEVEL SECURITY;
CREATE POLICY forms_of_tenant ON forms USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
