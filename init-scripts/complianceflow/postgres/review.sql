CREATE TYPE review_decision AS ENUM ('approve', 'reject', 'escalate');

CREATE TABLE reviews (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    declaration_id uuid NOT NULL,
    reviewer_id uuid NOT NULL,
    decision review_decision,
    remark text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX reviews_open ON reviews (tenant_id, reviewer_id) WHERE decision IS NULL;

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE reviews ENABLE ROW LEVEL SECURITY;
ALTER TABLE reviews FORCE ROW LEVEL SECURITY;
CREATE POLICY reviews_of_tenant ON reviews USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
