CREATE TYPE declaration_status AS ENUM ('draft', 'submitted', 'in_review', 'approved', 'rejected');

CREATE TABLE declarations (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    user_id uuid NOT NULL,
    form_code text NOT NULL,
    status declaration_status NOT NULL DEFAULT 'draft',
    answers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX declarations_status ON declarations (tenant_id, status, created_at DESC);
CREATE INDEX declarations_answers ON declarations USING gin (answers);

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE declarations ENABLE ROW LEVEL SECURITY;
ALTER TABLE declarations FORCE ROW LEVEL SECURITY;
CREATE POLICY declarations_of_tenant ON declarations USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
