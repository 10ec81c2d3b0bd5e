CREATE TYPE case_status AS ENUM ('open', 'investigating', 'closed');

CREATE TABLE cases (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    declaration_id uuid NOT NULL,
    status case_status NOT NULL DEFAULT 'open',
    summary text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX cases_status ON cases (tenant_id, status);
CREATE INDEX cases_summary ON cases USING gin (summary gin_trgm_ops);

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE cases ENABLE ROW LEVEL SECURITY;
ALTER TABLE cases FORCE ROW LEVEL SECURITY;
CREATE POLICY cases_of_tenant ON cases USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
