CREATE TYPE user_role AS ENUM ('client', 'lawyer', 'administrator');
CREATE TYPE case_status AS ENUM ('intake', 'open', 'on_hold', 'closed');
CREATE TYPE document_kind AS ENUM ('brief', 'contract', 'evidence', 'correspondence');

CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    email text NOT NULL,
    full_name text NOT NULL,
    role user_role NOT NULL DEFAULT 'client',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE cases (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    reference text NOT NULL UNIQUE,
    title text NOT NULL,
    status case_status NOT NULL DEFAULT 'intake',
    client_id uuid NOT NULL REFERENCES users (id),
    lawyer_id uuid REFERENCES users (id),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);
CREATE INDEX cases_client ON cases (client_id);
CREATE INDEX cases_lawyer ON cases (lawyer_id, status);
CREATE INDEX cases_title ON cases USING gin (title gin_trgm_ops);

CREATE TABLE documents (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    case_id uuid NOT NULL REFERENCES cases (id) ON DELETE CASCADE,
    kind document_kind NOT NULL,
    name text NOT NULL,
    storage_key text NOT NULL UNIQUE,
    content text NOT NULL DEFAULT '',
    embedding vector(1536),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_case ON documents (case_id, kind);
CREATE INDEX documents_content ON documents USING gin (content gin_trgm_ops);
