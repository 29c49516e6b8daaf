-- What an application's owners put into their project, as its user postgres. Synthetic.

ALTER ROLE authenticator SET statement_timeout = '20s';

CREATE ROLE app_reader LOGIN PASSWORD 'canary-role-password';
ALTER ROLE app_reader SET statement_timeout = '30s';
GRANT app_reader TO postgres;
GRANT pg_monitor TO app_reader;

CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY, statements text[], name text);
INSERT INTO supabase_migrations.schema_migrations VALUES ('20260101000000', ARRAY['select 1'], 'first');

CREATE TABLE public.profiles (
  id uuid PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, name text, joined_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.profiles USING (id = auth.uid());
GRANT SELECT ON public.profiles TO authenticated, app_reader;
CREATE TABLE public.notes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, profile uuid REFERENCES public.profiles, body text, secret text
);
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
-- Narrower than the default privileges make it.
REVOKE ALL ON public.notes FROM anon, authenticated;
GRANT SELECT (id, body) ON public.notes TO authenticated;
CREATE SEQUENCE public.case_number START 1000;
REVOKE ALL ON SEQUENCE public.case_number FROM anon, authenticated;
CREATE FUNCTION public.count_notes() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.notes';
REVOKE ALL ON FUNCTION public.count_notes() FROM PUBLIC, anon, authenticated;
CREATE MATERIALIZED VIEW public.totals AS SELECT profile, count(*) FROM public.notes GROUP BY profile;
REVOKE ALL ON public.totals FROM anon, authenticated;

CREATE FUNCTION public.new_profile() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
  $$ BEGIN INSERT INTO public.profiles (id, name) VALUES (NEW.id, NEW.email); RETURN NEW; END $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.new_profile();
CREATE FUNCTION public.call_out() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN PERFORM net.http_post('https://hooks.invalid/y'); RETURN NEW; END $$;
CREATE TRIGGER call_out AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.call_out();
CREATE TRIGGER tell AFTER INSERT ON public.notes FOR EACH ROW
  EXECUTE FUNCTION supabase_functions.http_request('https://hooks.invalid/x', 'POST');

INSERT INTO auth.users (id, email, encrypted_password, email_confirmed_at, raw_user_meta_data, created_at)
  SELECT md5(n::text)::uuid, 'person' || n || '@example.invalid', md5('p' || n), '2026-01-01', '{"n": 1}', '2026-01-01'
  FROM generate_series(1, 200) n;
INSERT INTO auth.identities (provider_id, user_id, identity_data, provider)
  SELECT id::text, id, jsonb_build_object('email', upper(email)), 'email' FROM auth.users;
INSERT INTO auth.sessions SELECT md5('s' || n)::uuid, md5(n::text)::uuid, '2026-01-02' FROM generate_series(1, 50) n;
INSERT INTO auth.refresh_tokens (token, user_id, session_id)
  SELECT md5('t' || n), md5(n::text), md5('s' || n)::uuid FROM generate_series(1, 50) n;
INSERT INTO auth.audit_log_entries (id, payload, created_at)
  SELECT md5('a' || n)::uuid, '{"action": "login"}', '2026-01-01' FROM generate_series(1, 300) n;
INSERT INTO public.notes (profile, body, secret)
  SELECT md5((1 + n % 200)::text)::uuid, 'note ' || n || E'\nCOPY auth.users (id) FROM stdin;\n', 's'
  FROM generate_series(1, 500) n;
SELECT nextval('public.case_number') FROM generate_series(1, 7);
REFRESH MATERIALIZED VIEW public.totals;

INSERT INTO storage.buckets (id, name) VALUES ('files', 'files'), ('avatars', 'avatars');
INSERT INTO storage.objects (bucket_id, name, metadata, version)
  SELECT 'files', 'folder/' || n || '.pdf',
    jsonb_build_object('size', n, 'eTag', '"' || md5(repeat('x', n)) || '"'), md5(n::text)
  FROM generate_series(1, 80) n;
INSERT INTO realtime.messages (topic, extension) SELECT 'room', 'broadcast' FROM generate_series(1, 10);
ALTER PUBLICATION supabase_realtime ADD TABLE public.notes;
SELECT cron.schedule('nightly', '0 3 * * *', 'SELECT public.count_notes()');
SELECT cron.alter_job(cron.schedule('paused', '0 4 * * *', $$SELECT 'it''s off'$$), active => false);
SELECT vault.create_secret('canary-vault-secret', 'stripe');

CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'elsewhere.invalid', dbname 'x');
CREATE USER MAPPING FOR postgres SERVER elsewhere OPTIONS (user 'x', password 'canary-fdw-password');
CREATE FOREIGN TABLE public.remote (id int) SERVER elsewhere;
REVOKE ALL ON public.remote FROM anon, authenticated;
