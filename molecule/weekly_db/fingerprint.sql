-- One row that stays the same however audit rows are divided between table and archive, and differs as soon as one is
-- lost, doubled or changed.
WITH both_tables AS (
  SELECT id, created_at, actor, action, entity, details, ip FROM public.audit_log
  UNION ALL
  SELECT id, created_at, actor, action, entity, details, ip FROM public.audit_log_archive)
SELECT count(*) AS audit_rows, sum(hashtextextended(both_tables::text, 0))::text AS hash,
  count(*) FILTER (WHERE created_at < now() - interval '90 days') AS old_rows
FROM both_tables
