"""Access keys of a user of AWS's IAM: two at most, and a secret that is told once, when it is made.

https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.keys.provider import Known, Made
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.keys.rotation import BEGUN, Use
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.words import some, to_second
from botocore.config import Config
from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError, ProfileNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ansible.module_utils.runbook.rules.keys.definition import Key
    from ansible.module_utils.runbook.rules.keys.rotation import Rotation
    from ansible.module_utils.runbook.rules.run import Run

_ANSWER_S = 20
_ACTIVE = "Active"
#: So far the clock of this machine may be from AWS's.
_SKEW = timedelta(minutes=5)
#: Errors of IAM, and what to do about them.
_FIXES = {
    "AccessDenied": "let these credentials list, create, update and delete access keys of that user, and ask when they "
    "were used last",
    "NoSuchEntity": "there is no such user; correct user of this key",
    "LimitExceeded": "a user has two access keys at most; delete the one that nobody uses",
    "InvalidClientTokenId": "the access key is not known there; check it",
    "SignatureDoesNotMatch": "the secret key is wrong; check it",
    "ExpiredToken": "the credentials have expired; give the run some that outlive it",
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """How the account is reached: as for S3, and which one it is; documented in ``doc_fragments/runbook_aws.py``."""
    return {name: option for name, option in s3.argument_spec().items() if name != "bucket"} | {
        "account_id": {"type": "str"}
    }


class Account:
    """An account of AWS."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Nothing is asked yet.

        :param params: options as :func:`argument_spec` has them
        :raises RunbookError: the profile is not there, or the address is none
        """
        self.endpoint_url = params["endpoint_url"]
        self._params = params
        try:
            self._session = boto3.Session(profile_name=params["profile"])
        except ProfileNotFound:
            raise RunbookError(
                f"profile: there is no {params['profile']!r} in the AWS configuration; check its name."
            ) from None
        self.iam = self._client("iam", attempts=4)
        #: Sends once: a second access key would take the place that the next rotation needs.
        self.iam_once = self._client("iam", attempts=1)

    def _client(self, service: str, attempts: int) -> Any:
        params = self._params
        is_here = urlsplit(params["endpoint_url"] or "").hostname in ("127.0.0.1", "localhost", "::1")
        try:
            return self._session.client(
                service,
                endpoint_url=params["endpoint_url"],
                region_name=params["region"] or "us-east-1",
                aws_access_key_id=params["access_key"],
                aws_secret_access_key=params["secret_key"],
                aws_session_token=params["session_token"],
                verify=params["aws_ca_bundle"],
                config=Config(
                    connect_timeout=_ANSWER_S, read_timeout=_ANSWER_S,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    # A proxy of the environment is not meant for this machine itself.
                    proxies={} if is_here else None,
                ),
            )  # fmt: skip
        except ValueError:
            raise RunbookError(f"endpoint_url: {params['endpoint_url']!r} is no address; correct it.") from None

    def account_id(self) -> str:
        """The number of the account that the credentials belong to.

        :raises RunbookError: nobody says
        """
        with explained("asking whose credentials these are"):
            return str(self._client("sts", attempts=4).get_caller_identity()["Account"])

    @property
    def target(self) -> Target:
        """As preflight names it."""
        return Target("aws_account", self.endpoint_url or "AWS", str(self._params["account_id"]))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """One sentence for what AWS says, without a key or a signature.

    :raises RunbookError: refused
    :raises UnreachableError: nobody answered, so that what became of it is unknown
    """
    try:
        yield
    except ClientError as error:
        code = s3.code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        family = UnreachableError if status >= 500 else RunbookError
        raise family(f"AWS refused {what} ({code}): {_FIXES.get(code, 'look the code up')}.", aws_code=code) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise RunbookError(f"AWS: {what} needs credentials, and there are none, or half of them.") from None
    except s3.ERRORS as error:
        raise UnreachableError(f"AWS did not answer {what} ({type(error).__name__}).") from None


class AccessKeys:
    """The access keys of the users of one account."""

    def __init__(self, account: Account, hide: Callable[[str], None]) -> None:
        self._account, self._hide = account, hide
        self._iam = account.iam

    def require(self, run: Run, environment: str) -> None:
        """As ``Provider.require``."""
        permits.require(run, self._account.target, environment)

    def current(self, key: Key) -> Known:
        """As ``Provider.current``."""
        found = self._keys(key)
        active = [each for each in found if each["Status"] == _ACTIVE]
        named = [each for each in found if each["AccessKeyId"] == key.in_use]
        if (key.in_use and not named) or (not key.in_use and len(active) > 1):
            ids = some([each["AccessKeyId"] for each in found])
            raise RunbookError(
                f"{key.name}: user {key.user} has the access keys {ids or '(none)'}, and the inventory "
                f"{'names ' + key.in_use if key.in_use else 'does not say which one is in use'}; name it in in_use of "
                "this key."
            )
        chosen = next(iter(named or active), None)
        return Known(chosen["AccessKeyId"], chosen["CreateDate"]) if chosen else Known("")

    def created_at(self, key: Key, key_id: str) -> datetime | None:
        """As ``Provider.created_at``."""
        return next((each["CreateDate"] for each in self._keys(key) if each["AccessKeyId"] == key_id), None)

    def make(self, key: Key, rotation: Rotation) -> Made:
        """As ``Provider.make``: a user has room for one key beside the old one, so what is there makes way."""
        for other in self._keys(key):
            if other["AccessKeyId"] != rotation.old:
                self._require_unused(key, rotation, other)
                self._delete(key, other["AccessKeyId"])
        with explained(f"to make an access key for {key.user}"):
            made = self._account.iam_once.create_access_key(UserName=key.user)["AccessKey"]
        self._hide(made["SecretAccessKey"])
        return Made(made["AccessKeyId"], {"id": made["AccessKeyId"], "secret": made["SecretAccessKey"]})

    def _require_unused(self, key: Key, rotation: Rotation, other: Mapping[str, Any]) -> None:
        """Let go what was retired, and what a killed run of this rotation made and nobody can ever use.

        :raises RunbookError: it is somebody else's
        """
        if other["Status"] != _ACTIVE:
            return
        used_at = self._used_at(other["AccessKeyId"])
        is_ours = other["CreateDate"] >= datetime.fromisoformat(rotation.at[BEGUN]) - _SKEW
        if used_at is None and is_ours:
            return
        said = f"used at {to_second(used_at.isoformat())}" if used_at else "never used"
        raise RunbookError(
            f"{key.name}: user {key.user} has a second access key, {other['AccessKeyId']}, {said}, and AWS allows no "
            "third; deactivate it when nobody needs it any more, and run this again."
        )

    def reveal(self, key: Key, key_id: str) -> Made | None:
        """As ``Provider.reveal``: AWS tells a secret once."""
        del key, key_id
        return None

    def use(self, key: Key, rotation: Rotation, now: datetime) -> Use:
        """As ``Provider.use``."""
        del now
        old = next((each for each in self._keys(key) if each["AccessKeyId"] == rotation.old), None)
        if old is None or old["Status"] != _ACTIVE:
            since = datetime.fromisoformat(rotation.at[BEGUN])
            return Use(f"The access key {rotation.old} is retired already.", unused_since=since)
        used_at = self._used_at(rotation.old)
        if used_at is None:
            return Use(f"AWS never saw the access key {rotation.old} used.", unused_since=old["CreateDate"])
        said = f"The access key {rotation.old} was used last at {to_second(used_at.isoformat())}."
        return Use(said, unused_since=used_at)

    def retire(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.retire``. It can be made active again until the next rotation needs its place."""
        try:
            with explained(f"to deactivate the access key {rotation.old}"):
                self._iam.update_access_key(UserName=key.user, AccessKeyId=rotation.old, Status="Inactive")
        except RunbookError as error:
            if error.context.get("aws_code") != "NoSuchEntity":
                raise

    def discard(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.discard``."""
        self._delete(key, rotation.new)

    def _keys(self, key: Key) -> list[dict[str, Any]]:
        with explained(f"to list the access keys of {key.user}"):
            found: list[dict[str, Any]] = self._iam.list_access_keys(UserName=key.user)["AccessKeyMetadata"]
        return found

    def _used_at(self, key_id: str) -> datetime | None:
        with explained(f"to say when the access key {key_id} was used"):
            found = self._iam.get_access_key_last_used(AccessKeyId=key_id)["AccessKeyLastUsed"]
        at: datetime | None = found.get("LastUsedDate")
        return at

    def _delete(self, key: Key, key_id: str) -> None:
        try:
            with explained(f"to delete the access key {key_id}"):
                self._iam.delete_access_key(UserName=key.user, AccessKeyId=key_id)
        except RunbookError as error:
            if error.context.get("aws_code") != "NoSuchEntity":
                raise
