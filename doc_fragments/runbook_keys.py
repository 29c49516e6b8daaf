"""Options that every module of keys shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Extended as C(runbook_keys)."""

    DOCUMENTATION = r"""
options:
  keys:
    description:
      - The keys of the application. How far the rotation of each is, the state store says under C(keys/<name>).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the key here, 3 to 40 small letters, digits and V(_). New keys are named after it.
        type: str
        required: true
      kind:
        description:
          - V(supabase_secret) and V(supabase_publishable) are API keys of a project at Supabase. V(s3_access_key) is an
            access key of a user of AWS. V(database_role) is the password of one of two login roles that take turns.
          - V(supabase_legacy), the JWT keys C(anon) and C(service_role), cannot be rotated beside a new one. It is
            refused with the way to migrate.
        type: str
        required: true
        choices: [supabase_secret, supabase_publishable, s3_access_key, database_role, supabase_legacy]
      env:
        description:
          - Environment variables of the application that hold the key.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - Name of the variable.
            type: str
            required: true
          part:
            description:
              - Which part of the key it holds. V(value) of a key of Supabase; V(id) and V(secret) of an access key;
                V(user), V(password) and V(url) of a role.
              - Left out, it is V(value), V(id) or V(password).
            type: str
          targets:
            description:
              - Environments of Vercel that it is for. Left out, V(production).
            type: list
            elements: str
      max_age_days:
        description:
          - The key is due for rotation when it is as old as this, 1 to 3650.
        type: int
        default: 90
      in_use:
        description:
          - The key that the application uses now, by its name or ID; of a V(database_role) the role. Needed before the
            first rotation only, where the service has several.
        type: str
      user:
        description:
          - User of AWS whose access keys they are.
        type: str
      roles:
        description:
          - The two login roles that take turns. Their rights have to come from a role that both are members of. The one
            that does not exist yet is created like the other.
        type: list
        elements: str
      url:
        description:
          - Address that role and password are put into, for a variable with V(part=url), such as
            V(postgresql://db.example.com:5432/mental_scribe?sslmode=verify-full).
        type: str
      user_suffix:
        description:
          - What stands behind the role's name where the application logs in through a pooler, such as
            V(.abcdefghijklmnopqrst) at Supabase.
        type: str
  vercel:
    description:
      - The project at Vercel that serves the application.
    type: dict
    required: true
    suboptions:
      project_id: &required_text
        description:
          - As for M(vercel_preflight).
        type: str
        required: true
      project_name: &vercel_text
        description:
          - As for M(vercel_preflight).
        type: str
      team_id:
        description:
          - As for M(vercel_preflight).
        type: str
        default: ''
      access_token: *required_text
      api_url:
        description:
          - As for M(vercel_preflight).
        type: str
        default: https://api.vercel.com
      ca_cert: &path
        description:
          - File with the certificate authorities that are trusted instead of the system's.
        type: path
      timeout_s: &seconds
        description:
          - Longest wait for one answer, in seconds.
        type: int
        default: 30
  supabase:
    description:
      - The project at Supabase, where a key is its.
    type: dict
    suboptions:
      project_ref: &supabase_required
        description:
          - As for M(supabase_preflight). The token needs the right to read and write API keys.
        type: str
        required: true
      project_name:
        description:
          - As for M(supabase_preflight).
        type: str
      access_token: *supabase_required
      api_url:
        description:
          - As for M(supabase_preflight).
        type: str
        default: https://api.supabase.com
      ca_cert: *path
      timeout_s: *seconds
  aws:
    description:
      - The account at AWS, where a key is an access key.
    type: dict
    suboptions:
      account_id: &aws_text
        description:
          - As for M(aws_preflight).
        type: str
      region: *aws_text
      endpoint_url: *aws_text
      profile: *aws_text
      access_key: *aws_text
      secret_key: *aws_text
      session_token: *aws_text
      aws_ca_bundle: *path
  database:
    description:
      - The database's server, where a key is the password of a role. The user needs CREATEROLE, and ADMIN OPTION on the
        role that gives the rights.
    type: dict
    suboptions:
      dsn: &database_text
        description:
          - As for M(pg_preflight).
        type: str
      login_host: *database_text
      login_port:
        description:
          - As for M(pg_preflight).
        type: int
        default: 5432
      login_user: *database_text
      login_password: *database_text
      login_db: *database_text
      system_identifier: *database_text
      ssl_mode:
        description:
          - As for M(pg_preflight).
        type: str
        default: prefer
        choices: [allow, disable, prefer, require, verify-ca, verify-full]
      ca_cert: *path
"""
