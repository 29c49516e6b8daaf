-- The roles of a Supabase project, made by supabase_admin, whom initdb made. For PostgreSQL 15 and newer.
-- Only what matters to maintenance is here; nothing of the platform's own code.

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
