"""What a bucket of backups must be: each demand against what the server says, checked and not believed.

A demand that is not made is not checked. What the server does not answer is ``unknown``, never ``ok``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Whoever is one of these is everybody.
_EVERYBODY = ("AllUsers", "AuthenticatedUsers")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_FIX = "playbooks/backup_bucket.yml sets it"


@dataclass(frozen=True)
class Setting:
    """One setting: its value (None where it was never made), or the sentence why it could not be read."""

    value: Any
    error: str = ""
    #: The server knows no such setting, so that nobody can make it.
    is_foreign: bool = False


@dataclass(frozen=True)
class Demands:
    """What the inventory wants of a bucket; each can be switched off."""

    versioning: bool
    #: ``AES256`` (``aws:kms`` is more and also does), ``aws:kms``, or ``none``.
    encryption: str
    kms_key_id: str
    block_public_access: bool
    #: ``GOVERNANCE`` (``COMPLIANCE`` is more and also does), ``COMPLIANCE``, or ``none``.
    object_lock: str
    object_lock_days: int
    #: Name of the bucket that a replication rule must lead to; empty if none is wanted.
    replicate_to: str
    #: After how many days unfinished uploads must be given up; 0 if that is not wanted.
    abort_multipart_days: int
    tls_only: bool
    #: Folder of the backups, which rules of lifecycle and replication must cover.
    prefix: str


@dataclass(frozen=True)
class Change:
    """A setting that ``playbooks/backup_bucket.yml`` makes: what it is now and what it becomes, in words."""

    setting: str
    now: str
    wanted: str


def plan(
    found: Mapping[str, Setting], checks: Sequence[Check], demands: Demands, *, write_policy: bool
) -> list[Change]:
    """What would be set, of what is not as it should be; what cannot be read would be set too.

    :param checks: as :func:`judge` gives them
    :param write_policy: the bucket's policy may be replaced
    """
    lock = f"{demands.object_lock} for {count(demands.object_lock_days, 'day')}" if demands.object_lock_days else "on"
    kind = f"{demands.encryption}{' with ' + demands.kms_key_id if demands.kms_key_id else ''}"
    wanted = {
        "versioning": "Enabled",
        "encryption": kind,
        "public_access_block": "all four blocks on",
        "object_lock": lock,
    } | ({"tls_only": "the policy is REPLACED by one that refuses requests without TLS"} if write_policy else {})
    return [
        Change(check.name, _now(found, check), wanted[check.name])
        for check in checks
        if check.status != Status.OK and check.name in wanted
    ]


def _now(found: Mapping[str, Setting], check: Check) -> str:
    setting = found["policy" if check.name == "tls_only" else check.name]
    if setting.error:
        return f"not known ({setting.error})"
    if setting.value is None:
        return "never set"
    return setting.value if isinstance(setting.value, str) else json.dumps(setting.value, sort_keys=True, default=str)


def as_diff(changes: Sequence[Change]) -> dict[str, str]:
    """The plan as ``--diff`` shows it."""
    return {
        "before": "".join(f"{each.setting}: {each.now}\n" for each in changes),
        "after": "".join(f"{each.setting}: {each.wanted}\n" for each in changes),
    }


def check_demands(demands: Demands) -> None:
    """Refuse demands that contradict each other.

    :raises RunbookError: a negative number, days without a lock, a key without KMS
    """
    for name in ("object_lock_days", "abort_multipart_days"):
        if getattr(demands, name) < 0:
            raise RunbookError(f"{name}: {getattr(demands, name)} is negative; give 0 or more.")
    if demands.object_lock_days and demands.object_lock == "none":
        raise RunbookError("object_lock_days: object_lock is none; set it to GOVERNANCE or COMPLIANCE.")
    if demands.kms_key_id and demands.encryption != "aws:kms":
        raise RunbookError("kms_key_id: encryption is not aws:kms; set it, or leave the key out.")


def judge(found: Mapping[str, Setting], tags: Mapping[str, str], demands: Demands, environment: str) -> list[Check]:
    """All checks that are wanted; that nobody unknown can read is always wanted.

    :param found: each setting by its name, as the driver read it
    :param tags: the bucket's tags
    """
    checks = [_judge_environment(tags, environment)]
    if demands.versioning:
        checks.append(_simple("versioning", found, found["versioning"].value == "Enabled", "Versions are kept."))
    if demands.encryption != "none":
        checks.append(_judge_encryption(found["encryption"], demands))
    if demands.block_public_access:
        value = found["public_access_block"].value or {}
        blocked = all(value.get(each) is True for each in _BLOCKS)
        checks.append(_simple("public_access_block", found, blocked, "Public access is blocked."))
        if found["public_access_block"].is_foreign:
            told = checks.pop().msg.rstrip(".")
            told += "; where it knows no such thing, set backup_bucket_block_public_access to false"
            checks.append(Check.unknown("public_access_block", f"{told}."))
    checks += [_judge_policy_status(found["policy_is_public"]), _judge_acl(found["acl"])]
    if demands.object_lock != "none":
        checks.append(_judge_lock(found["object_lock"], demands))
    if demands.replicate_to:
        checks.append(_judge_replication(found["replication"], demands))
    if demands.abort_multipart_days:
        checks.append(_judge_lifecycle(found["lifecycle"], demands))
    checks += _judge_expiration(found["lifecycle"], demands)
    if demands.tls_only:
        checks.append(_judge_tls(found["policy"]))
    return checks


def _unread(name: str, setting: Setting) -> Check | None:
    if setting.error:
        return Check.unknown(name, f"{name} is not known: {setting.error}.")
    return None


def _simple(name: str, found: Mapping[str, Setting], good: bool, text: str) -> Check:
    unread = _unread(name, found[name])
    if unread:
        return unread
    return Check.ok(name, text) if good else Check.breach(name, f"{name} is not switched on; {_FIX}.")


def _judge_environment(tags: Mapping[str, str], environment: str) -> Check:
    said = tags.get("runbook-environment")
    if said == environment:
        return Check.ok("environment", f"The bucket is tagged as one of {environment}.")
    what = "carries no tag runbook-environment" if said is None else f"is tagged as one of {said!r}"
    return Check.breach("environment", f"The bucket {what}, and this inventory is {environment}; is it the right one?")


def _judge_encryption(setting: Setting, demands: Demands) -> Check:
    unread = _unread("encryption", setting)
    if unread:
        return unread
    kinds = {
        str(each.get("SSEAlgorithm")): str(each.get("KMSMasterKeyID", ""))
        for rule in setting.value or []
        if (each := rule.get("ApplyServerSideEncryptionByDefault"))
    }
    named = ", ".join(kinds)
    strong = [kind for kind in kinds if kind in ("aws:kms", "aws:kms:dsse")]
    wrong = ""
    if not kinds:
        wrong = "New objects are not encrypted by default"
    elif demands.encryption == "aws:kms" and not strong:
        wrong = f"New objects are encrypted with {named}, not with KMS"
    elif demands.kms_key_id and not any(_same_key(kinds[kind], demands.kms_key_id) for kind in strong):
        wrong = "New objects are encrypted with another KMS key"
    if wrong:
        return Check.breach("encryption", f"{wrong}; {_FIX}.")
    return Check.ok("encryption", f"New objects are encrypted with {named}.")


def _same_key(found: str, wanted: str) -> bool:
    """A key is named by its id or by its ARN, which ends with the id."""
    return found.rpartition("/")[2] == wanted.rpartition("/")[2]


def _judge_policy_status(setting: Setting) -> Check:
    unread = _unread("policy_status", setting)
    if unread:
        return unread
    if setting.value:
        return Check.breach("policy_status", "The bucket's policy lets everybody in; take that statement out.")
    return Check.ok("policy_status", "No policy lets everybody in.")


def _judge_acl(setting: Setting) -> Check:
    unread = _unread("acl", setting)
    if unread:
        return unread
    for grant in setting.value or []:
        if str(grant.get("Grantee", {}).get("URI", "")).rpartition("/")[2] in _EVERYBODY:
            return Check.breach("acl", "The bucket's ACL gives everybody a right; set it to private.")
    return Check.ok("acl", "The ACL gives everybody nothing.")


def _judge_lock(setting: Setting, demands: Demands) -> Check:
    unread = _unread("object_lock", setting)
    if unread:
        return unread
    value = setting.value or {}
    if value.get("ObjectLockEnabled") != "Enabled":
        return Check.breach("object_lock", f"Object Lock is off; {_FIX} on a bucket that keeps versions.")
    rule = value.get("Rule", {}).get("DefaultRetention", {})
    mode, days = rule.get("Mode", "none"), rule.get("Days", 0) or 365 * rule.get("Years", 0)
    if demands.object_lock_days and (
        days < demands.object_lock_days or (demands.object_lock == "COMPLIANCE" and mode != "COMPLIANCE")
    ):
        return Check.breach(
            "object_lock",
            f"New objects are locked for {count(days, 'day')} ({mode}), {demands.object_lock_days} "
            f"({demands.object_lock}) are wanted; {_FIX}.",
        )
    return Check.ok("object_lock", f"Object Lock is on; new objects are locked for {count(days, 'day')} ({mode}).")


def _covers(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule of lifecycle or replication covers everything below ``prefix``."""
    if rule.get("Status") != "Enabled":
        return False
    given = rule.get("Filter", rule)
    if any(key in given for key in ("Tag", "And", "ObjectSizeGreaterThan", "ObjectSizeLessThan")):
        return False
    return prefix.startswith(str(given.get("Prefix", "")).strip("/"))


def _judge_replication(setting: Setting, demands: Demands) -> Check:
    unread = _unread("replication", setting)
    if unread:
        return unread
    for rule in setting.value or []:
        target = str(rule.get("Destination", {}).get("Bucket", "")).rpartition(":")[2]
        if target == demands.replicate_to and _covers(rule, demands.prefix.strip("/")):
            return Check.ok("replication", f"New objects are replicated to {target}.")
    return Check.breach(
        "replication",
        f"No rule that is on replicates the backups to {demands.replicate_to}; make one (docs/howto/verify.md).",
    )


def _judge_expiration(setting: Setting, demands: Demands) -> list[Check]:
    """A rule that expires objects deletes backups without knowing which is proven; nothing where there is none."""
    prefix = demands.prefix.strip("/")
    for rule in setting.value or []:
        given = rule.get("Filter", rule)
        reach = str(given.get("Prefix", given.get("And", {}).get("Prefix", ""))).strip("/")
        expires = rule.get("Expiration", {})
        touches = prefix.startswith(reach) or reach.startswith(prefix)
        if rule.get("Status") == "Enabled" and touches and ("Days" in expires or "Date" in expires):
            return [
                Check.breach(
                    "expiration",
                    f"Lifecycle rule {rule.get('ID', '?')!r} expires backups, and does not know which is proven; take "
                    "its Expiration out, and leave old backups to retention.",
                )
            ]
    return []


def _judge_lifecycle(setting: Setting, demands: Demands) -> Check:
    unread = _unread("lifecycle", setting)
    if unread:
        return unread
    for rule in setting.value or []:
        days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
        if days is not None and days <= demands.abort_multipart_days and _covers(rule, demands.prefix.strip("/")):
            return Check.ok("lifecycle", f"Unfinished uploads are given up after {count(days, 'day')}.")
    return Check.breach(
        "lifecycle",
        f"No rule gives unfinished uploads up after {count(demands.abort_multipart_days, 'day')}; make one "
        "(docs/howto/verify.md).",
    )


def _judge_tls(setting: Setting) -> Check:
    unread = _unread("tls_only", setting)
    if unread:
        return unread
    try:
        statements = json.loads(setting.value or "{}").get("Statement", [])
    except (ValueError, AttributeError):
        return Check.unknown("tls_only", "The bucket's policy cannot be read.")
    for each in [statements] if isinstance(statements, dict) else statements:
        if _refuses_plain_text(each):
            return Check.ok("tls_only", "The bucket's policy refuses requests without TLS.")
    return Check.breach(
        "tls_only", "The bucket's policy does not refuse requests without TLS; playbooks/backup_bucket.yml can."
    )


def _refuses_plain_text(statement: Mapping[str, Any]) -> bool:
    everybody = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
    action = statement.get("Action")
    everything = "s3:*" in action if isinstance(action, list) else action in ("s3:*", "*")
    conditions = statement.get("Condition", {})
    plain = str(conditions.get("Bool", {}).get("aws:SecureTransport", "")).lower() == "false"
    # A second condition would let some plain text through.
    alone = list(conditions) == ["Bool"] and list(conditions["Bool"]) == ["aws:SecureTransport"]
    return statement.get("Effect") == "Deny" and everybody and everything and plain and alone
