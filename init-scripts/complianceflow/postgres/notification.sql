CREATE TYPE notification_channel AS ENUM ('email', 'sms', 'in_app');

CREATE TABLE notifications (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id uuid NOT NULL DEFAULT current_tenant() REFERENCES tenants (id),
    user_id uuid NOT NULL,
    channel notification_channel NOT NULL,
    body text NOT NULL,
    sent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX notifications_unsent ON notifications (created_at) WHERE sent_at IS NULL;

-- The owner is the application's role, so the policy is forced upon it as well.
ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE notifications FORCE ROW LEVEL SECURITY;
CREATE POLICY notifications_of_tenant ON notifications USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant());
