"""A Mental Scribe database for demonstrations, tests and benchmarks.

The text of every statement is made here; the server makes the rows. There is no personal data in it: names are
numbered, addresses end in ``example.com``, texts are drawn from a small list of words.

What it is made to look like:

- ``audit_log`` and ``messages`` reach back 180 days, busy on weekday afternoons and quiet at night; about half of them
  is older than 90 days.
- ``messages`` and ``note_versions`` hold texts that PostgreSQL keeps out of line (TOAST).
- Rows were updated and deleted all over the tables and vacuumed once in between, so there is free space in the middle
  of tables and indexes (bloat), and dead rows on top of it. Statistics are older than the last changes.
- ``job_queue`` is the table that everybody has: thousands of rows went through it and hardly any is left.
- Rights are as in production. ``mental_scribe_owner`` owns the database and all that is in it, and is no superuser;
  ``mental_scribe_app`` is what the application works as. Row-level security keeps the patients' tables, some of them
  from their owner too (FORCE). Default privileges open new tables to the application. ``mental_scribe_migrations``
  may do what the owner may; it logs in where a password for it is given.
- It has something to find: a foreign key without an index (``conversations.template_id``), an index that nobody uses
  (``audit_log_ip_idx``), one that another makes superfluous (``sessions_user_id_idx``), and, after :func:`traffic`, a
  query that is slow for want of the first.

The same scale and seed give the same rows on the same version of PostgreSQL, counted back from the server's clock.
"""

from __future__ import annotations

import hashlib
import math
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Rows at scale 1.
AUDIT_ROWS = 60_000
MESSAGE_ROWS = 60_000
HISTORY_DAYS = 180
MAX_SCALE = 1000


class Step(NamedTuple):
    """One statement, and what it does in a few words."""

    label: str
    sql: str


#: Who owns everything, what the application works as, and who logs in for the owner.
OWNER, APPLICATION, MIGRATIONS = "mental_scribe_owner", "mental_scribe_app", "mental_scribe_migrations"
# They belong to the whole server, so they may be there.
_ROLES = """
DO 'BEGIN CREATE ROLE $owner NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END';
DO 'BEGIN CREATE ROLE $application NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END';
DO 'BEGIN CREATE ROLE $migrations NOLOGIN IN ROLE $owner; EXCEPTION WHEN duplicate_object THEN NULL; END';
"""
_OWNERSHIP = """
DO 'BEGIN EXECUTE format(''ALTER DATABASE %I OWNER TO $owner'', current_database()); END';
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO $owner;
GRANT USAGE ON SCHEMA public TO $application;
SET ROLE $owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO $application;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO $application;
"""

_SCHEMA = """
CREATE TABLE public.plans (
  code text PRIMARY KEY, title text NOT NULL, monthly_cents integer NOT NULL, seats integer NOT NULL);
CREATE TABLE public.organisations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, slug text NOT NULL UNIQUE,
  region text NOT NULL DEFAULT 'eu', created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.users (
  id uuid PRIMARY KEY, number bigint NOT NULL UNIQUE, email text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(), last_seen_at timestamptz);
CREATE TABLE public.profiles (
  user_id uuid PRIMARY KEY, display_name text NOT NULL, locale text NOT NULL, preferences jsonb NOT NULL DEFAULT '{}',
  updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.memberships (
  organisation_id bigint NOT NULL, user_id uuid NOT NULL, role text NOT NULL DEFAULT 'member',
  joined_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (organisation_id, user_id));
CREATE TABLE public.invitations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint NOT NULL, email text NOT NULL,
  invited_by uuid NOT NULL, expires_at timestamptz NOT NULL, accepted_at timestamptz);
CREATE TABLE public.subscriptions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint NOT NULL UNIQUE, plan text NOT NULL,
  status text NOT NULL, renews_at timestamptz NOT NULL);
CREATE TABLE public.invoices (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subscription_id bigint NOT NULL, amount_cents integer NOT NULL,
  issued_at timestamptz NOT NULL, paid_at timestamptz, lines jsonb NOT NULL DEFAULT '[]');
CREATE TABLE public.api_keys (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint NOT NULL, label text NOT NULL,
  key_hash text NOT NULL UNIQUE, created_at timestamptz NOT NULL, last_used_at timestamptz, revoked_at timestamptz);
CREATE TABLE public.sessions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL, token_hash text NOT NULL,
  user_agent text NOT NULL, created_at timestamptz NOT NULL, last_seen_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL);
CREATE TABLE public.password_resets (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL, token_hash text NOT NULL,
  requested_at timestamptz NOT NULL, used_at timestamptz);
CREATE TABLE public.templates (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint, title text NOT NULL, body text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE public.tags (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint NOT NULL, name text NOT NULL,
  UNIQUE (organisation_id, name));
CREATE TABLE public.conversations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL, template_id bigint, title text NOT NULL,
  status text NOT NULL DEFAULT 'open', message_count integer NOT NULL DEFAULT 0, metadata jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE public.conversation_tags (
  conversation_id bigint NOT NULL, tag_id bigint NOT NULL, PRIMARY KEY (conversation_id, tag_id));
CREATE TABLE public.messages (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, conversation_id bigint NOT NULL, author text NOT NULL,
  body text NOT NULL, tokens integer NOT NULL, metadata jsonb NOT NULL DEFAULT '{}', edited_at timestamptz,
  created_at timestamptz NOT NULL);
CREATE TABLE public.message_feedback (
  message_id bigint PRIMARY KEY, score smallint NOT NULL, remark text, created_at timestamptz NOT NULL);
CREATE TABLE public.attachments (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id bigint NOT NULL, object_key text NOT NULL,
  content_type text NOT NULL, size_bytes bigint NOT NULL);
CREATE TABLE public.notes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, conversation_id bigint NOT NULL, author uuid NOT NULL,
  title text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE public.note_versions (
  note_id bigint NOT NULL, version integer NOT NULL, body text NOT NULL, saved_at timestamptz NOT NULL,
  PRIMARY KEY (note_id, version));
CREATE TABLE public.notifications (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL, kind text NOT NULL,
  payload jsonb NOT NULL, created_at timestamptz NOT NULL, read_at timestamptz);
CREATE TABLE public.webhooks (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organisation_id bigint NOT NULL, url text NOT NULL,
  events text[] NOT NULL, enabled boolean NOT NULL DEFAULT true);
CREATE TABLE public.webhook_deliveries (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, webhook_id bigint NOT NULL, status_code integer NOT NULL,
  delivered_at timestamptz NOT NULL, response jsonb);
CREATE TABLE public.usage_counters (
  organisation_id bigint NOT NULL, day date NOT NULL, messages integer NOT NULL, tokens bigint NOT NULL,
  PRIMARY KEY (organisation_id, day));
CREATE TABLE public.feature_flags (
  name text PRIMARY KEY, enabled boolean NOT NULL, rollout_percent smallint NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE public.job_queue (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL, payload jsonb NOT NULL,
  run_after timestamptz NOT NULL, attempts integer NOT NULL DEFAULT 0);
CREATE TABLE public.audit_log (
  id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), actor uuid,
  action text NOT NULL, entity text NOT NULL, details jsonb NOT NULL DEFAULT '{}', ip inet);
CREATE TABLE public.audit_log_archive (
  id bigint PRIMARY KEY, created_at timestamptz NOT NULL, actor uuid,
  action text NOT NULL, entity text NOT NULL, details jsonb NOT NULL, ip inet,
  archived_at timestamptz NOT NULL DEFAULT now());
"""

# Keys and indexes come after the rows: the server checks a whole table faster than row by row.
_KEYS = """
ALTER TABLE public.profiles ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
ALTER TABLE public.memberships ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE,
  ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
ALTER TABLE public.invitations ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE,
  ADD FOREIGN KEY (invited_by) REFERENCES public.users;
ALTER TABLE public.subscriptions ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations,
  ADD FOREIGN KEY (plan) REFERENCES public.plans;
ALTER TABLE public.invoices ADD FOREIGN KEY (subscription_id) REFERENCES public.subscriptions;
ALTER TABLE public.api_keys ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE;
ALTER TABLE public.sessions ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
ALTER TABLE public.password_resets ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
ALTER TABLE public.templates ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE;
ALTER TABLE public.tags ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE;
ALTER TABLE public.conversations ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE,
  ADD FOREIGN KEY (template_id) REFERENCES public.templates ON DELETE SET NULL;
ALTER TABLE public.conversation_tags
  ADD FOREIGN KEY (conversation_id) REFERENCES public.conversations ON DELETE CASCADE,
  ADD FOREIGN KEY (tag_id) REFERENCES public.tags ON DELETE CASCADE;
ALTER TABLE public.messages ADD FOREIGN KEY (conversation_id) REFERENCES public.conversations ON DELETE CASCADE;
ALTER TABLE public.message_feedback ADD FOREIGN KEY (message_id) REFERENCES public.messages ON DELETE CASCADE;
ALTER TABLE public.attachments ADD FOREIGN KEY (message_id) REFERENCES public.messages ON DELETE CASCADE;
ALTER TABLE public.notes ADD FOREIGN KEY (conversation_id) REFERENCES public.conversations ON DELETE CASCADE,
  ADD FOREIGN KEY (author) REFERENCES public.users;
ALTER TABLE public.note_versions ADD FOREIGN KEY (note_id) REFERENCES public.notes ON DELETE CASCADE;
ALTER TABLE public.notifications ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
ALTER TABLE public.webhooks ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE;
ALTER TABLE public.webhook_deliveries ADD FOREIGN KEY (webhook_id) REFERENCES public.webhooks ON DELETE CASCADE;
ALTER TABLE public.usage_counters ADD FOREIGN KEY (organisation_id) REFERENCES public.organisations ON DELETE CASCADE;
CREATE INDEX audit_log_created_at_idx ON public.audit_log (created_at);
CREATE INDEX audit_log_actor_idx ON public.audit_log (actor, created_at);
CREATE INDEX audit_log_archive_created_at_idx ON public.audit_log_archive (created_at);
CREATE INDEX messages_conversation_idx ON public.messages (conversation_id, created_at);
CREATE INDEX messages_created_at_idx ON public.messages (created_at);
CREATE INDEX conversations_user_idx ON public.conversations (user_id, updated_at);
CREATE INDEX conversations_updated_at_idx ON public.conversations (updated_at);
CREATE INDEX conversation_tags_tag_idx ON public.conversation_tags (tag_id);
CREATE INDEX sessions_user_idx ON public.sessions (user_id);
CREATE INDEX sessions_user_id_idx ON public.sessions (user_id);
CREATE INDEX audit_log_ip_idx ON public.audit_log (ip);
CREATE INDEX sessions_last_seen_at_idx ON public.sessions (last_seen_at);
CREATE INDEX notes_conversation_idx ON public.notes (conversation_id);
CREATE INDEX attachments_message_idx ON public.attachments (message_id);
CREATE INDEX notifications_user_idx ON public.notifications (user_id, created_at);
CREATE INDEX webhook_deliveries_webhook_idx ON public.webhook_deliveries (webhook_id, delivered_at);
CREATE INDEX job_queue_run_after_idx ON public.job_queue (run_after);
"""

_WORDS = (
    "note session patient plan review summary draft question answer follow sleep mood week goal exercise breathing"
    " record topic agree next step and the with for about after before during longer shorter calm clear open slow"
)

# Everything random comes from random() of this one session, so that the seed decides; parallel plans would shuffle it.
_TOOLS = """
SELECT setseed($fraction);
SET synchronous_commit = off;
SET max_parallel_workers_per_gather = 0;
SET maintenance_work_mem = '256MB';
SET work_mem = '64MB';
CREATE TEMP TABLE clock AS SELECT date_trunc('second', now()) AS now;
CREATE TEMP TABLE hours AS
  SELECT hour, sum(weight) OVER to_here / sum(weight) OVER () AS share_to,
    (sum(weight) OVER to_here - weight) / sum(weight) OVER () AS share_from
  FROM (SELECT hour, (0.08 + exp(-((extract(hour FROM hour AT TIME ZONE 'UTC')::float8 - 14) ^ 2) / 18))
          * CASE WHEN extract(isodow FROM hour AT TIME ZONE 'UTC') > 5 THEN 0.35 ELSE 1 END AS weight
        FROM pg_temp.clock, generate_series(now - interval '$days days', now - interval '1 hour', '1 hour') AS hour)
        AS weighted
  WINDOW to_here AS (ORDER BY hour);
CREATE FUNCTION pg_temp.moments(total bigint) RETURNS TABLE (n bigint, at timestamptz) LANGUAGE sql AS
  'SELECT row_number() OVER (), hour + (k - random()) / wanted * interval ''1 hour''
   FROM (SELECT hour, round(share_to * total)::bigint - round(share_from * total)::bigint AS wanted
         FROM pg_temp.hours ORDER BY hour) AS h, generate_series(1, wanted) AS k';
CREATE FUNCTION pg_temp.user_id(number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
  'SELECT md5(''$seed/user/'' || number)::uuid';
CREATE TEMP TABLE prose (p integer PRIMARY KEY, text text);
ALTER TABLE pg_temp.prose ALTER COLUMN text SET STORAGE PLAIN;
INSERT INTO pg_temp.prose
  SELECT p, string_agg(list[1 + floor(random() * cardinality(list))::integer], ' ' ORDER BY w)
  FROM generate_series(1, 64) AS p, generate_series(1, 300) AS w, string_to_array('$words', ' ') AS list GROUP BY p;
CREATE TEMP TABLE noise (p integer PRIMARY KEY, text text);
ALTER TABLE pg_temp.noise ALTER COLUMN text SET STORAGE PLAIN;
INSERT INTO pg_temp.noise
  SELECT p, string_agg(encode(sha256(convert_to('$seed/' || p || '/' || k, 'UTF8')), 'base64'), '' ORDER BY k)
  FROM generate_series(1, 64) AS p, generate_series(1, 170) AS k GROUP BY p;
"""

_PEOPLE = """
INSERT INTO public.plans VALUES ('free', 'Free', 0, 3), ('team', 'Team', 2900, 20), ('clinic', 'Clinic', 9900, 200);
INSERT INTO public.organisations (name, slug, region, created_at)
  SELECT 'Organisation ' || n, 'organisation-' || n, (ARRAY['eu', 'us', 'ap'])[1 + n % 3],
    now - (200 + random() * 400) * interval '1 day'
  FROM pg_temp.clock, generate_series(1, $organisations) AS n;
INSERT INTO public.users
  SELECT pg_temp.user_id(n), n, 'user-' || n || '@example.com', now - (180 + random() * 400) * interval '1 day',
    now - random() * interval '30 days'
  FROM pg_temp.clock, generate_series(1, $users) AS n;
INSERT INTO public.profiles
  SELECT id, 'User ' || number, (ARRAY['en', 'de', 'fr', 'pt'])[1 + number % 4],
    jsonb_build_object('theme', (ARRAY['light', 'dark'])[1 + number % 2], 'digest', number % 3 = 0), created_at
  FROM public.users ORDER BY number;
INSERT INTO public.memberships
  SELECT 1 + number % $organisations, id, CASE WHEN number <= $organisations THEN 'owner' ELSE 'member' END, created_at
  FROM public.users ORDER BY number;
INSERT INTO public.invitations (organisation_id, email, invited_by, expires_at, accepted_at)
  SELECT 1 + number % $organisations, 'guest-' || number || '@example.com', id, created_at + interval '14 days',
    CASE WHEN number % 20 < 15 THEN created_at + interval '1 day' END
  FROM public.users WHERE number % 5 = 0 ORDER BY number;
INSERT INTO public.subscriptions (organisation_id, plan, status, renews_at)
  SELECT id, (ARRAY['free', 'team', 'clinic'])[1 + id % 3], 'active', now + random() * interval '30 days'
  FROM public.organisations, pg_temp.clock ORDER BY id;
INSERT INTO public.invoices (subscription_id, amount_cents, issued_at, paid_at, lines)
  SELECT s.id, 2900, now - m * interval '30 days', now - m * interval '30 days' + interval '3 days',
    jsonb_build_array(jsonb_build_object('plan', s.plan, 'seats', 3 + s.id % 17))
  FROM public.subscriptions AS s, pg_temp.clock, generate_series(6, 0, -1) AS m
  WHERE s.plan <> 'free' ORDER BY m DESC, s.id;
INSERT INTO public.api_keys (organisation_id, label, key_hash, created_at, last_used_at, revoked_at)
  SELECT 1 + n % $organisations, 'key ' || n, md5('$seed/key/' || n), now - interval '170 days',
    now - random() * interval '9 days',
    CASE WHEN n % 7 = 0 THEN now - interval '20 days' END
  FROM pg_temp.clock, generate_series(1, 2 * $organisations) AS n;
INSERT INTO public.sessions (user_id, token_hash, user_agent, created_at, last_seen_at, expires_at)
  SELECT pg_temp.user_id(1 + floor(random() * $users)::bigint), md5('$seed/session/' || n), 'Browser ' || n % 9, at, at,
    at + interval '30 days'
  FROM pg_temp.moments($sessions);
INSERT INTO public.password_resets (user_id, token_hash, requested_at, used_at)
  SELECT id, md5('$seed/reset/' || number), created_at + interval '40 days', created_at + interval '41 days'
  FROM public.users WHERE number % 6 = 0 ORDER BY number;
INSERT INTO public.templates (organisation_id, title, body)
  SELECT CASE WHEN n > 12 THEN 1 + n % $organisations END, 'Template ' || n,
    (SELECT substr(text, 1, 900) FROM pg_temp.prose WHERE p = 1 + n % 64)
  FROM generate_series(1, 12 + $organisations) AS n;
INSERT INTO public.tags (organisation_id, name)
  SELECT o, (ARRAY['urgent', 'later', 'done', 'review', 'billing', 'group'])[t]
  FROM generate_series(1, $organisations) AS o, generate_series(1, 6) AS t;
INSERT INTO public.webhooks (organisation_id, url, events)
  SELECT o, 'https://hooks.example.com/' || o, ARRAY['message.created', 'note.saved']
  FROM generate_series(1, $organisations) AS o;
INSERT INTO public.feature_flags
  SELECT 'flag_' || n, n % 3 > 0, n * 7 % 101, now - n * interval '9 days'
  FROM pg_temp.clock, generate_series(1, 18) AS n;
INSERT INTO public.notifications (user_id, kind, payload, created_at, read_at)
  SELECT pg_temp.user_id(1 + floor(random() * $users)::bigint), (ARRAY['mention', 'summary', 'billing'])[1 + n % 3],
    jsonb_build_object('number', n), at, CASE WHEN n % 4 > 0 THEN at + interval '2 hours' END
  FROM pg_temp.moments($sessions);
INSERT INTO public.webhook_deliveries (webhook_id, status_code, delivered_at, response)
  SELECT 1 + n % $organisations, CASE WHEN n % 50 = 0 THEN 500 ELSE 200 END, at, jsonb_build_object('ms', 20 + n % 400)
  FROM pg_temp.moments($sessions);
INSERT INTO public.usage_counters
  SELECT o, (now - d * interval '1 day')::date, 10 + o * d % 90, 1000 + o * d % 9000
  FROM pg_temp.clock, generate_series($days, 0, -1) AS d, generate_series(1, $organisations) AS o;
"""

_CONVERSATIONS = """
INSERT INTO public.conversations (user_id, template_id, title, message_count, metadata, created_at, updated_at)
  SELECT pg_temp.user_id(1 + floor(random() * $users)::bigint), CASE WHEN n % 3 = 0 THEN 1 + n % 12 END,
    'Conversation ' || n, 15,
    jsonb_build_object('source', (ARRAY['web', 'mobile', 'api'])[1 + n % 3], 'language', 'en'), at, at
  FROM pg_temp.moments($conversations);
INSERT INTO public.conversation_tags
  SELECT id, 1 + (id % $organisations) * 6 + id % 6 FROM public.conversations WHERE id % 4 = 0 ORDER BY id;
INSERT INTO public.notes (conversation_id, author, title, created_at)
  SELECT id, user_id, 'Note ' || id, created_at + interval '1 hour'
  FROM public.conversations WHERE id % 5 = 0 ORDER BY id;
INSERT INTO public.note_versions
  SELECT id, version, (SELECT substr(text, 1 + (id % 40)::integer * 10, 2400 + version * 200)
                       FROM pg_temp.noise WHERE p = 1 + id % 64),
    created_at + version * interval '1 hour'
  FROM public.notes, generate_series(1, 3) AS version ORDER BY id, version;
"""

# A message belongs to one of the conversations that were new when it was written.
_MESSAGES = """
INSERT INTO public.messages (conversation_id, author, body, tokens, metadata, created_at)
  SELECT greatest(1, floor(n::float8 / $messages * $conversations - random() ^ 2 * 40))::bigint,
    CASE WHEN n % 2 = 0 THEN 'assistant' ELSE 'user' END,
    CASE WHEN n % 25 = 0 THEN (SELECT substr(text, 1 + (n % 97)::integer * 10, 2200 + floor(random() * 3800)::integer)
                               FROM pg_temp.noise WHERE p = 1 + n % 64)
         ELSE (SELECT substr(text, 1 + (n % 31)::integer, 60 + floor(random() ^ 2 * 900)::integer)
               FROM pg_temp.prose WHERE p = 1 + n % 64) END,
    20 + floor(random() * 400)::integer, jsonb_build_object('model', 'demo-' || n % 3, 'ms', n % 4000), at
  FROM pg_temp.moments($messages);
INSERT INTO public.message_feedback
  SELECT id, 1 + id % 5, NULL, created_at + interval '2 minutes' FROM public.messages WHERE id % 40 = 2 ORDER BY id;
INSERT INTO public.attachments (message_id, object_key, content_type, size_bytes)
  SELECT id, 'attachments/' || md5('$seed/object/' || id), 'application/pdf', 1000 + id % 900000
  FROM public.messages WHERE id % 60 = 3 ORDER BY id;
"""

_AUDIT = """
INSERT INTO public.audit_log_archive
  SELECT n, now - interval '$days days' - ($archived - n + random()) / $archived * interval '20 days',
    pg_temp.user_id(1 + n % $users), 'user.login', 'session', jsonb_build_object('request', md5('$seed/old/' || n)),
    '10.0.0.0'::inet + n % 65000, now - interval '$days days' + interval '90 days'
  FROM pg_temp.clock, generate_series(1, $archived) AS n;
INSERT INTO public.audit_log (id, created_at, actor, action, entity, details, ip)
  SELECT $archived + n, at, CASE WHEN n % 20 > 0 THEN pg_temp.user_id(1 + floor(random() * $users)::bigint) END,
    (ARRAY['user.login', 'message.create', 'message.update', 'note.save', 'conversation.open', 'export.download',
           'settings.change', 'user.logout'])[1 + floor(random() ^ 2 * 8)::integer],
    (ARRAY['session', 'message', 'note', 'conversation', 'organisation'])[1 + n % 5],
    jsonb_build_object('request', md5('$seed/request/' || n), 'ms', floor(random() * 900), 'path',
      '/api/v1/items/' || n % 9973, 'agent', 'Browser ' || n % 9),
    '10.0.0.0'::inet + n % 65000
  FROM pg_temp.moments($audit);
SELECT setval(pg_get_serial_sequence('public.audit_log', 'id'), $archived + $audit);
INSERT INTO public.job_queue (kind, payload, run_after)
  SELECT (ARRAY['mail', 'export', 'summary'])[1 + n % 3], jsonb_build_object('job', md5('$seed/job/' || n)), at
  FROM pg_temp.moments($sessions);
"""

_EARLIER_CHANGES = """
DELETE FROM public.messages WHERE id % 7 = 5;
UPDATE public.conversations SET updated_at = created_at + interval '1 hour', message_count = message_count + 1;
UPDATE public.sessions SET last_seen_at = created_at + interval '1 hour';
DELETE FROM public.sessions WHERE id % 3 = 0;
DELETE FROM public.job_queue WHERE id % 50 > 0;
VACUUM (ANALYZE) public.messages;
VACUUM (ANALYZE) public.conversations;
VACUUM (ANALYZE) public.sessions;
VACUUM (ANALYZE) public.audit_log;
ANALYZE;
"""

_LATER_CHANGES = """
UPDATE public.conversations SET updated_at = created_at + interval '2 hours',
    status = CASE WHEN id % 3 = 0 THEN 'closed' ELSE 'open' END
  WHERE id % 10 < 6;
UPDATE public.sessions SET last_seen_at = last_seen_at + interval '1 hour' WHERE id % 2 = 0;
DELETE FROM public.sessions WHERE expires_at < (SELECT now FROM pg_temp.clock) AND id % 5 = 1;
UPDATE public.messages SET edited_at = created_at + interval '5 minutes', body = body || ' (edited)' WHERE id % 9 = 4;
DELETE FROM public.messages WHERE id % 16 = 9;
DELETE FROM public.notifications WHERE read_at IS NOT NULL AND id % 3 = 0;
UPDATE public.profiles SET updated_at = (SELECT now FROM pg_temp.clock);
DELETE FROM public.job_queue WHERE id % 100 > 0;
DROP TABLE pg_temp.clock, pg_temp.hours, pg_temp.prose, pg_temp.noise CASCADE;
"""


# Last of all, because FORCE would hide the rows from their owner, who fills the tables.
_MINE = "conversation_id IN (SELECT id FROM public.conversations WHERE user_id = $me)"
_RIGHTS = """
REVOKE INSERT, UPDATE, DELETE ON public.plans, public.feature_flags, public.audit_log_archive FROM $application;
REVOKE UPDATE, DELETE ON public.audit_log FROM $application;
ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.audit_log FOR SELECT TO $application USING (actor = $me);
CREATE POLICY write ON public.audit_log FOR INSERT TO $application WITH CHECK (true);
ALTER TABLE public.audit_log_archive ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.audit_log_archive FOR SELECT TO $application USING (actor = $me);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.profiles TO $application USING (user_id = $me);
ALTER TABLE public.conversations ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.conversations TO $application USING (user_id = $me);
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.messages TO $application USING ($mine);
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.notes TO $application USING ($mine);
ALTER TABLE public.note_versions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.note_versions TO $application
  USING (note_id IN (SELECT id FROM public.notes WHERE $mine));
RESET ROLE;
"""


def sizes(scale: float) -> dict[str, int]:
    """Rows to make, by what they are.

    :param scale: 1 is some 60,000 audit rows and as many messages, ready in seconds; 50 is 3 million of each, some 3 GB
    :raises RunbookError: not a number above 0 and up to 1000
    """
    if not math.isfinite(scale) or not 0 < scale <= MAX_SCALE:
        raise RunbookError(f"scale: {scale:g} is out of range; give a number above 0 and up to {MAX_SCALE}.")

    def rows(at_one: int, least: int) -> int:
        return max(least, round(at_one * scale))

    return {
        "audit": rows(AUDIT_ROWS, 100),
        "archived": rows(AUDIT_ROWS // 12, 10),
        "messages": rows(MESSAGE_ROWS, 100),
        "conversations": rows(MESSAGE_ROWS // 15, 10),
        "sessions": rows(6_000, 100),
        "users": rows(600, 20),
        "organisations": rows(20, 3),
    }


class Home(NamedTuple):
    """Whose the tables are, and for whom the application asks."""

    owner: str
    application: str
    #: The expression that says who the application's user is.
    me: str
    #: Statements that make the roles.
    roles: str


#: The application says in a setting for whom it works.
SELF_HOSTED = Home(
    owner=OWNER,
    application=APPLICATION,
    me="current_setting('app.user_id', true)::uuid",
    roles=Template(_ROLES).substitute(owner=OWNER, application=APPLICATION, migrations=MIGRATIONS),
)


def roles() -> list[Step]:
    """The roles alone, which a server needs before a backup of the database can be restored on it."""
    return [Step("owner and application", statement) for statement in SELF_HOSTED.roles.strip().split(";\n")]


def steps(*, scale: float, seed: int, home: Home = SELF_HOSTED) -> list[Step]:
    """Everything that fills an empty database, in order, for one session with autocommit (VACUUM is among it).

    :param scale: see :func:`sizes`
    :param seed: another seed gives other rows
    :param home: other roles than those of a server of one's own
    :raises RunbookError: ``scale`` is out of range
    """
    values: dict[str, object] = dict(sizes(scale))
    digest = hashlib.sha256(str(seed).encode()).digest()
    # setseed() takes a number from -1 to 1.
    values |= {
        "seed": seed,
        "fraction": int.from_bytes(digest[:4], "big") / 2**32,
        "days": HISTORY_DAYS,
        "words": _WORDS,
        "owner": home.owner,
        "application": home.application,
        "me": home.me,
        "mine": Template(_MINE).substitute(me=home.me),
    }
    sections = {
        "owner and application": home.roles + _OWNERSHIP.lstrip(),
        "tables": _SCHEMA,
        "texts to draw from": _TOOLS,
        "organisations and users": _PEOPLE,
        "conversations": _CONVERSATIONS,
        "messages": _MESSAGES,
        "audit log": _AUDIT,
        "keys and indexes": _KEYS,
        "older changes, vacuumed": _EARLIER_CHANGES,
        "newer changes": _LATER_CHANGES,
        "row-level security": _RIGHTS,
    }
    return [
        Step(label, statement.strip())
        for label, text in sections.items()
        for statement in Template(text).substitute(values).split(";\n")
        if statement.strip()
    ]


#: How often the slow query is asked; fewer calls are no habit, and no finding.
_ASKED = 12
# Each index that an application needs is used, so that the one which nobody needs stands out.
_USED = """
SELECT count(*) FROM public.messages WHERE created_at > now() - interval '1 hour';
SELECT count(*) FROM public.messages WHERE conversation_id = 7 AND created_at > now() - interval '90 days';
SELECT count(*) FROM public.audit_log WHERE created_at > now() - interval '1 hour';
SELECT count(*) FROM public.audit_log
  WHERE actor = '00000000-0000-0000-0000-000000000000' AND created_at > now() - interval '1 hour';
SELECT count(*) FROM public.audit_log_archive WHERE created_at > now() - interval '1 hour';
SELECT count(*) FROM public.conversations WHERE updated_at > now() - interval '1 hour';
SELECT count(*) FROM public.sessions WHERE last_seen_at > now() - interval '1 hour';
SELECT count(*) FROM public.notifications WHERE user_id = '00000000-0000-0000-0000-000000000000';
SELECT count(*) FROM public.webhook_deliveries WHERE webhook_id = 7 AND delivered_at > now() - interval '1 hour'
"""
_SLOW = """
SELECT title, (SELECT max(messages.created_at) FROM public.conversations
    JOIN public.messages ON messages.conversation_id = conversations.id WHERE conversations.template_id = templates.id)
  FROM public.templates WHERE id <= 12
"""


def traffic() -> list[Step]:
    """A day's questions of an application, for the server's counters of queries and indexes."""
    asked = ["SET enable_seqscan = off", *_USED.strip().split(";\n"), "RESET enable_seqscan", *[_SLOW.strip()] * _ASKED]
    return [Step("people at work", statement) for statement in asked]


def statements(*, scale: float = 1, seed: int = 1) -> list[str]:
    """The SQL of :func:`steps` alone, to be run one after the other on one connection with autocommit."""
    return [step.sql for step in steps(scale=scale, seed=seed)]


def fingerprint(every: Sequence[Step]) -> str:
    """Names these very contents: another scale, seed or version of this file gives another.

    :param every: all that is run in the database
    """
    return hashlib.sha256("\n".join(step.sql for step in every).encode()).hexdigest()[:16]
