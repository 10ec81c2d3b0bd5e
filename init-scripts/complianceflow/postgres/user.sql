CREATE TYPE user_role AS ENUM ('member', 'reviewer', 'administrator');

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    email text NOT NULL,
    display_name text NOT NULL,
    role user_role NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX users_email ON users (tenant_id, lower(email));
CREATE INDEX users_name ON users USING gin (display_name gin_trgm_ops);

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY users_of_tenant ON users USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
