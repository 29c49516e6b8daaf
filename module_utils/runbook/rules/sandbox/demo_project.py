"""A database in the shape of a Supabase project, for the sandbox and for tests: what the platform makes, whose it is.

Written from the platform's public documentation, for PostgreSQL 15 and newer; only what matters to maintenance, and
nothing of the platform's own code. Its superuser ``supabase_admin``, whom initdb made, runs :func:`roles` once on a
server, and :func:`database` in each database. A project's owner logs in as ``postgres``, who is no superuser.

Extensions that no plain server offers are entered by hand: pg_dump and the catalogues treat them as real ones. What the
platform's own extension, supautils, lets ``postgres`` do is emulated by a grant where one can.

In it, :func:`steps` makes the tables of ``rules/sandbox/demo_database.py``, and what an application leaves in the
schemas of the platform: users, files, jobs, a secret, a webhook.
"""

from __future__ import annotations

from ansible.module_utils.runbook.rules.sandbox import demo_database
from ansible.module_utils.runbook.rules.sandbox.demo_database import Step
from ansible.module_utils.runbook.rules.supabase.managed import OWNER

_ROLES = r"""
CREATE ROLE postgres LOGIN NOSUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE supabase_auth_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE supabase_storage_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE supabase_realtime_admin NOLOGIN NOINHERIT;
CREATE ROLE supabase_functions_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE supabase_replication_admin LOGIN REPLICATION;
CREATE ROLE supabase_etl_admin LOGIN REPLICATION;
CREATE ROLE supabase_read_only_user LOGIN BYPASSRLS;
CREATE ROLE supabase_privileged_role NOLOGIN;
CREATE ROLE dashboard_user NOLOGIN CREATEDB CREATEROLE REPLICATION;
CREATE ROLE pgbouncer LOGIN;

GRANT anon, authenticated, service_role, supabase_storage_admin TO authenticator;
GRANT pg_read_all_data TO supabase_read_only_user, supabase_etl_admin;
DO $$
DECLARE
  role text;
  with_admin text := '';
BEGIN
  IF current_setting('server_version_num')::int >= 160000 THEN
    with_admin := ' WITH ADMIN OPTION';
    GRANT authenticator, pg_create_subscription TO postgres WITH ADMIN OPTION;
  END IF;
  FOREACH role IN ARRAY ARRAY['anon', 'authenticated', 'service_role', 'pg_monitor', 'pg_read_all_data',
                              'pg_signal_backend'] LOOP
    EXECUTE format('GRANT %I TO postgres', role) || with_admin;
  END LOOP;
END $$;

ALTER ROLE postgres SET search_path = '"\$user"', public, extensions;
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
ALTER ROLE authenticator SET lock_timeout = '8s';
ALTER ROLE supabase_auth_admin SET search_path = auth;
ALTER ROLE supabase_auth_admin SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE supabase_storage_admin SET search_path = storage;

-- The platform's extension supautils lets postgres do this; a plain server needs the grant.
GRANT SET ON PARAMETER session_replication_role TO postgres;
"""

_DATABASE = r"""
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I OWNER TO postgres', current_database());
  EXECUTE format('GRANT ALL ON DATABASE %I TO dashboard_user', current_database());
END $$;

-- Schemas ---------------------------------------------------------------------------------------------------------

CREATE SCHEMA auth;
CREATE SCHEMA storage;
CREATE SCHEMA realtime;
CREATE SCHEMA pgbouncer;
CREATE SCHEMA vault;
CREATE SCHEMA graphql;
CREATE SCHEMA graphql_public;
CREATE SCHEMA net;
CREATE SCHEMA supabase_functions;
CREATE SCHEMA extensions AUTHORIZATION postgres;

GRANT USAGE ON SCHEMA auth TO postgres, anon, authenticated, service_role;
GRANT ALL ON SCHEMA auth TO supabase_auth_admin, dashboard_user;
GRANT USAGE ON SCHEMA storage, realtime, vault TO postgres WITH GRANT OPTION;
GRANT USAGE ON SCHEMA storage, realtime TO anon, authenticated, service_role;
GRANT USAGE ON SCHEMA vault TO service_role;
GRANT ALL ON SCHEMA storage TO supabase_storage_admin;
GRANT ALL ON SCHEMA realtime TO supabase_realtime_admin;
GRANT ALL ON SCHEMA supabase_functions TO supabase_functions_admin;
GRANT USAGE ON SCHEMA supabase_functions TO postgres, anon, authenticated, service_role;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
GRANT USAGE ON SCHEMA net TO PUBLIC;
GRANT USAGE ON SCHEMA graphql_public, extensions TO postgres, anon, authenticated, service_role;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
GRANT ALL ON SCHEMA public TO postgres;

-- Default privileges ------------------------------------------------------------------------------------------------

DO $$
DECLARE
  maker text;
  kind text;
BEGIN
  FOREACH kind IN ARRAY ARRAY['TABLES', 'FUNCTIONS', 'SEQUENCES'] LOOP
    EXECUTE 'ALTER DEFAULT PRIVILEGES FOR ROLE supabase_auth_admin IN SCHEMA auth GRANT ALL ON ' || kind
      || ' TO postgres, dashboard_user';
    EXECUTE 'ALTER DEFAULT PRIVILEGES FOR ROLE supabase_storage_admin IN SCHEMA storage GRANT ALL ON ' || kind
      || ' TO postgres, anon, authenticated, service_role';
    EXECUTE 'ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA extensions GRANT ALL ON ' || kind
      || ' TO postgres WITH GRANT OPTION';
    IF @open_by_default@ THEN
      FOREACH maker IN ARRAY ARRAY['postgres', 'supabase_admin'] LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT ALL ON ', maker) || kind
          || ' TO postgres, anon, authenticated, service_role';
      END LOOP;
    END IF;
  END LOOP;
END $$;

-- auth --------------------------------------------------------------------------------------------------------------

SET ROLE supabase_auth_admin;
CREATE TABLE auth.users (
  instance_id uuid, id uuid PRIMARY KEY, aud varchar(255), role varchar(255), email varchar(255),
  encrypted_password varchar(255), email_confirmed_at timestamptz, phone_confirmed_at timestamptz,
  raw_app_meta_data jsonb, raw_user_meta_data jsonb, created_at timestamptz, updated_at timestamptz,
  deleted_at timestamptz, is_anonymous boolean NOT NULL DEFAULT false,
  confirmed_at timestamptz GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED
);
CREATE TABLE auth.identities (
  provider_id text NOT NULL, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
  identity_data jsonb NOT NULL, provider text NOT NULL, created_at timestamptz,
  email text GENERATED ALWAYS AS (lower(identity_data ->> 'email')) STORED,
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), UNIQUE (provider_id, provider)
);
CREATE TABLE auth.sessions (
  id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE, created_at timestamptz
);
CREATE TABLE auth.refresh_tokens (
  id bigserial PRIMARY KEY, token varchar(255) UNIQUE, user_id varchar(255), revoked boolean, created_at timestamptz,
  session_id uuid REFERENCES auth.sessions ON DELETE CASCADE
);
CREATE TABLE auth.audit_log_entries (
  id uuid PRIMARY KEY, payload json, created_at timestamptz, ip_address varchar(64) NOT NULL DEFAULT ''
);
CREATE TABLE auth.schema_migrations (version varchar(255) PRIMARY KEY);
REVOKE ALL ON auth.schema_migrations FROM postgres, dashboard_user;
INSERT INTO auth.schema_migrations SELECT '2021010100000' || n FROM generate_series(1, 5) n;
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.refresh_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.audit_log_entries ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
  AS $$ SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
RESET ROLE;

-- storage -----------------------------------------------------------------------------------------------------------

SET ROLE supabase_storage_admin;
CREATE TYPE storage.buckettype AS ENUM ('STANDARD', 'ANALYTICS', 'VECTOR');
CREATE TABLE storage.buckets (
  id text PRIMARY KEY, name text NOT NULL UNIQUE, owner uuid, created_at timestamptz DEFAULT now(),
  updated_at timestamptz DEFAULT now(), public boolean DEFAULT false, file_size_limit bigint,
  type storage.buckettype NOT NULL DEFAULT 'STANDARD'
);
CREATE TABLE storage.objects (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), bucket_id text REFERENCES storage.buckets, name text, owner uuid,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(), metadata jsonb, version text,
  path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED, UNIQUE (bucket_id, name)
);
CREATE TABLE storage.buckets_vectors (id text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE storage.vector_indexes (id text PRIMARY KEY, bucket_id text NOT NULL REFERENCES storage.buckets_vectors);
CREATE TABLE storage.migrations (id int PRIMARY KEY, name varchar(100) UNIQUE NOT NULL, hash varchar(40) NOT NULL);
REVOKE ALL ON storage.migrations, storage.buckets_vectors, storage.vector_indexes
  FROM postgres, anon, authenticated, service_role;
GRANT SELECT ON storage.buckets_vectors, storage.vector_indexes TO authenticated, anon;
INSERT INTO storage.migrations SELECT n, 'step ' || n, md5(n::text) FROM generate_series(0, 4) n;
ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.migrations ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION storage.protect_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' THEN
    RAISE EXCEPTION 'rows of storage are deleted through its API' USING ERRCODE = '42501';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER protect_buckets_delete BEFORE DELETE ON storage.buckets
  FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
CREATE TRIGGER protect_objects_delete BEFORE DELETE ON storage.objects
  FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
CREATE FUNCTION storage.touch() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER update_objects_updated_at BEFORE INSERT OR UPDATE ON storage.objects
  FOR EACH ROW EXECUTE FUNCTION storage.touch();
RESET ROLE;

-- realtime ----------------------------------------------------------------------------------------------------------

CREATE TABLE realtime.schema_migrations (version bigint PRIMARY KEY, inserted_at timestamp);
INSERT INTO realtime.schema_migrations SELECT n, '2024-01-01' FROM generate_series(1, 4) n;
CREATE TABLE realtime.subscription (
  id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, subscription_id uuid NOT NULL, entity regclass NOT NULL,
  claims jsonb NOT NULL
);
CREATE TABLE realtime.messages (
  topic text NOT NULL, extension text NOT NULL, payload jsonb, event text, private boolean DEFAULT false,
  updated_at timestamp NOT NULL DEFAULT now(), inserted_at timestamp NOT NULL DEFAULT now(),
  id uuid NOT NULL DEFAULT gen_random_uuid(), PRIMARY KEY (id, inserted_at)
) PARTITION BY RANGE (inserted_at);
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE realtime.schema_migrations OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.subscription OWNER TO supabase_realtime_admin;
ALTER TABLE realtime.messages OWNER TO supabase_realtime_admin;
DO $$
DECLARE
  day date;
BEGIN
  FOR day IN SELECT current_date + n FROM generate_series(-2, 1) n LOOP
    EXECUTE format('CREATE TABLE realtime.messages_%s PARTITION OF realtime.messages FOR VALUES FROM (%L) TO (%L)',
                   to_char(day, 'YYYY_MM_DD'), day, day + 1);
    EXECUTE format('ALTER TABLE realtime.messages_%s OWNER TO supabase_realtime_admin', to_char(day, 'YYYY_MM_DD'));
  END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE ON realtime.messages TO postgres, anon, authenticated, service_role;

-- Extensions --------------------------------------------------------------------------------------------------------
-- Those that no plain server offers are entered by hand: pg_dump and the catalogues treat them as real ones.

CREATE TABLE vault.secrets (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, description text NOT NULL DEFAULT '',
  secret text NOT NULL, nonce bytea, created_at timestamptz NOT NULL DEFAULT now()
);
CREATE VIEW vault.decrypted_secrets AS
  SELECT id, name, description, secret, convert_from(decode(secret, 'base64'), 'UTF8') AS decrypted_secret, nonce
  FROM vault.secrets;
CREATE FUNCTION vault.create_secret(new_secret text, new_name text DEFAULT NULL, new_description text DEFAULT '')
  RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
  INSERT INTO vault.secrets (secret, name, description, nonce)
  VALUES (pg_catalog.encode(pg_catalog.convert_to(new_secret, 'UTF8'), 'base64'), new_name, new_description, '\x00')
  RETURNING id $$;
CREATE FUNCTION vault.update_secret(secret_id uuid, new_secret text) RETURNS void LANGUAGE sql SECURITY DEFINER
  SET search_path = '' AS $$
  UPDATE vault.secrets SET secret = pg_catalog.encode(pg_catalog.convert_to(new_secret, 'UTF8'), 'base64')
  WHERE id = secret_id $$;
REVOKE ALL ON FUNCTION vault.create_secret, vault.update_secret FROM PUBLIC;
GRANT SELECT, DELETE ON vault.secrets, vault.decrypted_secrets TO postgres WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION vault.create_secret, vault.update_secret TO postgres, service_role;

CREATE UNLOGGED TABLE net.http_request_queue (
  id bigserial, method text NOT NULL, url text NOT NULL, headers jsonb, body bytea
);
CREATE UNLOGGED TABLE net._http_response (id bigint, status_code int, content text, created timestamptz DEFAULT now());
GRANT ALL ON net.http_request_queue, net._http_response TO PUBLIC;
GRANT ALL ON SEQUENCE net.http_request_queue_id_seq TO PUBLIC;
CREATE FUNCTION net.http_post(url text, body jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO net.http_request_queue (method, url, body) VALUES ('POST', url, convert_to(body::text, 'UTF8'))
  RETURNING id $$;

CREATE FUNCTION graphql.resolve(query text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION graphql_public.graphql(query text DEFAULT NULL) RETURNS jsonb LANGUAGE sql
  AS $$ SELECT graphql.resolve(query) $$;

CREATE SCHEMA cron;
GRANT USAGE ON SCHEMA cron TO postgres WITH GRANT OPTION;
CREATE SEQUENCE cron.jobid_seq;
CREATE TABLE cron.job (
  jobid bigint PRIMARY KEY DEFAULT nextval('cron.jobid_seq'), schedule text NOT NULL, command text NOT NULL,
  nodename text NOT NULL DEFAULT 'localhost', nodeport int NOT NULL DEFAULT 5432,
  database text NOT NULL DEFAULT current_database(), username text NOT NULL DEFAULT current_user,
  active boolean NOT NULL DEFAULT true, jobname text, UNIQUE (jobname, username)
);
ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY;
CREATE POLICY cron_job_policy ON cron.job USING (username = current_user);
CREATE TABLE cron.job_run_details (
  jobid bigint, runid bigint PRIMARY KEY, database text, username text, command text, status text, return_message text,
  start_time timestamptz, end_time timestamptz
);
ALTER TABLE cron.job_run_details ENABLE ROW LEVEL SECURITY;
CREATE POLICY cron_job_run_details_policy ON cron.job_run_details USING (username = current_user);
CREATE FUNCTION cron.schedule(job_name text, schedule text, command text) RETURNS bigint LANGUAGE sql SECURITY DEFINER
  SET search_path = '' AS $$
  INSERT INTO cron.job (jobname, schedule, command, username) VALUES (job_name, schedule, command, session_user)
  RETURNING jobid $$;
CREATE FUNCTION cron.schedule(schedule text, command text) RETURNS bigint LANGUAGE sql SECURITY DEFINER
  SET search_path = '' AS $$
  INSERT INTO cron.job (schedule, command, username) VALUES (schedule, command, session_user) RETURNING jobid $$;
CREATE FUNCTION cron.alter_job(job_id bigint, schedule text DEFAULT NULL, command text DEFAULT NULL,
                               database text DEFAULT NULL, username text DEFAULT NULL, active boolean DEFAULT NULL)
  RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
  UPDATE cron.job SET active = coalesce(alter_job.active, job.active)
  WHERE jobid = job_id AND job.username = session_user $$;
GRANT SELECT ON cron.job TO postgres WITH GRANT OPTION;
GRANT SELECT, DELETE ON cron.job_run_details TO postgres WITH GRANT OPTION;

DO $$
DECLARE
  fake record;
  object text;
  kind text;
BEGIN
  SET LOCAL allow_system_table_mods = on;
  FOR fake IN
    SELECT * FROM (VALUES
      ('supabase_vault', '0.3.1', 'vault', ARRAY['vault.secrets'],
       ARRAY['TABLE vault.secrets', 'VIEW vault.decrypted_secrets', 'FUNCTION vault.create_secret',
             'FUNCTION vault.update_secret']),
      ('pg_net', '0.14.0', 'extensions', ARRAY[]::text[],
       ARRAY['SCHEMA net', 'TABLE net.http_request_queue', 'SEQUENCE net.http_request_queue_id_seq',
             'TABLE net._http_response', 'FUNCTION net.http_post']),
      ('pg_graphql', '1.5.11', 'graphql', ARRAY[]::text[], ARRAY['FUNCTION graphql.resolve']),
      ('pg_cron', '1.6.4', 'pg_catalog', ARRAY['cron.job', 'cron.jobid_seq'],
       ARRAY['SCHEMA cron', 'TABLE cron.job', 'SEQUENCE cron.jobid_seq', 'TABLE cron.job_run_details',
             'FUNCTION cron.schedule(text, text, text)', 'FUNCTION cron.schedule(text, text)',
             'FUNCTION cron.alter_job'])
    ) AS fakes (name, version, schema, config, members)
  LOOP
    INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion, extconfig, extcondition)
    SELECT pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index'), fake.name, r.oid, n.oid, false,
           fake.version, nullif(fake.config, '{}')::regclass[]::oid[],
           CASE WHEN fake.config <> '{}' THEN array_fill(''::text, ARRAY[cardinality(fake.config)]) END
    FROM pg_roles r, pg_namespace n WHERE r.rolname = current_user AND n.nspname = fake.schema;
    FOREACH object IN ARRAY fake.members LOOP
      EXECUTE format('ALTER EXTENSION %I ADD %s', fake.name, object);
    END LOOP;
  END LOOP;
  FOREACH kind IN ARRAY ARRAY['pgcrypto', 'uuid-ossp', 'pg_stat_statements', 'pgstattuple'] LOOP
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = kind) THEN
      EXECUTE format('CREATE EXTENSION %I SCHEMA extensions', kind);
    END IF;
  END LOOP;
END $$;
CREATE EXTENSION postgres_fdw SCHEMA extensions;
GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO postgres WITH GRANT OPTION;

-- Webhooks ----------------------------------------------------------------------------------------------------------

SET ROLE supabase_functions_admin;
CREATE TABLE supabase_functions.migrations (version text PRIMARY KEY);
INSERT INTO supabase_functions.migrations VALUES ('initial');
CREATE TABLE supabase_functions.hooks (
  id bigserial PRIMARY KEY, hook_table_id int NOT NULL, hook_name text NOT NULL, created_at timestamptz DEFAULT now()
);
CREATE FUNCTION supabase_functions.http_request() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO net.http_request_queue (method, url) VALUES (TG_ARGV[1], TG_ARGV[0]);
  INSERT INTO supabase_functions.hooks (hook_table_id, hook_name) VALUES (TG_RELID::bigint::int, TG_NAME);
  RETURN NEW;
END $$;
RESET ROLE;

-- Event triggers and publications -----------------------------------------------------------------------------------

CREATE FUNCTION extensions.pgrst_ddl_watch() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN NOTIFY pgrst, 'reload schema'; END $$;
CREATE FUNCTION extensions.pgrst_drop_watch() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN NOTIFY pgrst, 'reload schema'; END $$;
CREATE FUNCTION extensions.grant_pg_cron_access() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() c JOIN pg_extension e ON e.oid = c.objid
             WHERE e.extname = 'pg_cron') THEN
    GRANT USAGE ON SCHEMA cron TO postgres WITH GRANT OPTION;
  END IF;
END $$;
CREATE EVENT TRIGGER pgrst_ddl_watch ON ddl_command_end EXECUTE FUNCTION extensions.pgrst_ddl_watch();
CREATE EVENT TRIGGER pgrst_drop_watch ON sql_drop EXECUTE FUNCTION extensions.pgrst_drop_watch();
CREATE EVENT TRIGGER issue_pg_cron_access ON ddl_command_end WHEN TAG IN ('CREATE EXTENSION')
  EXECUTE FUNCTION extensions.grant_pg_cron_access();

CREATE PUBLICATION supabase_realtime;
ALTER PUBLICATION supabase_realtime OWNER TO postgres;
CREATE PUBLICATION supabase_realtime_messages_publication FOR TABLE realtime.messages;
"""

#: As postgres. The platform keeps users, files and jobs; what hangs on them is the application's.
_APPLICATION = """
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM anon;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM anon;
CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY, statements text[], name text);
INSERT INTO supabase_migrations.schema_migrations VALUES ('20260101000000', ARRAY['SELECT 1'], 'first');
INSERT INTO auth.users (id, email, encrypted_password, email_confirmed_at, raw_user_meta_data, created_at)
  SELECT id, email, md5('password of ' || number), created_at, jsonb_build_object('number', number), created_at
  FROM public.users;
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider, created_at)
  SELECT id::text, id, jsonb_build_object('email', email), 'email', created_at FROM public.users;
INSERT INTO auth.sessions SELECT md5('session of ' || number)::uuid, id, now() FROM public.users WHERE number % 4 = 0;
INSERT INTO auth.audit_log_entries (id, payload, created_at)
  SELECT md5('entry ' || id)::uuid, json_build_object('action', action), created_at
  FROM public.audit_log WHERE entity = 'session';
CREATE FUNCTION public.note_new_user() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  INSERT INTO public.audit_log (actor, action, entity) VALUES (NEW.id, 'user.created', 'user');
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION public.note_new_user() FROM PUBLIC, anon, authenticated;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.note_new_user();
CREATE TRIGGER tell AFTER INSERT ON public.invitations FOR EACH ROW
  EXECUTE FUNCTION supabase_functions.http_request('https://hooks.example.com/invited', 'POST');
INSERT INTO storage.buckets (id, name) VALUES ('attachments', 'attachments');
INSERT INTO storage.objects (bucket_id, name, metadata, version)
  SELECT 'attachments', object_key,
    jsonb_build_object('size', size_bytes, 'mimetype', content_type, 'eTag', md5(object_key)), md5(object_key)
  FROM public.attachments;
INSERT INTO realtime.messages (topic, extension) SELECT 'conversation', 'broadcast' FROM generate_series(1, 10);
ALTER PUBLICATION supabase_realtime ADD TABLE public.notifications;
SELECT cron.schedule('nightly', '0 3 * * *', 'DELETE FROM public.password_resets WHERE used_at IS NOT NULL');
SELECT vault.create_secret('a secret of the sandbox', 'example');
"""

_OURS = demo_database.Home(owner=OWNER, application="authenticated", me="auth.uid()", roles="")


def roles() -> list[Step]:
    """The roles of a project, once on a server."""
    return [Step("roles of the platform", _ROLES)]


def database(*, open_by_default: bool) -> str:
    """What the platform makes in an empty database, for a session of its superuser.

    :param open_by_default: the era in which new tables in ``public`` were everybody's
    """
    return _DATABASE.replace("@open_by_default@", str(open_by_default).lower())


def platform() -> list[Step]:
    """The same as a step, of the era in which most projects were made."""
    return [Step("schemas of the platform", database(open_by_default=True))]


def steps(*, scale: float, seed: int) -> list[Step]:
    """What an application's owner makes in a project, for one session of ``postgres`` with autocommit.

    :raises RunbookError: ``scale`` is out of range
    """
    made = demo_database.steps(scale=scale, seed=seed, home=_OURS)
    return [*made, Step("users, files and jobs", _APPLICATION)]
