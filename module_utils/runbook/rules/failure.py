"""The sentence for an error that no code nearer to it has put into words.

What an operator, a server or a network can cause has a sentence here, by the error's class. What is left is a fault of
this project, and its sentence names the place in the code. No error's own text is passed on: it may quote a row, or a
secret.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import Any

from ansible.module_utils.runbook.rules.postgres.server_error import ServerError

_ROLLED_BACK = "what was not committed is rolled back"


def sentence(module: str, error: BaseException) -> str:
    """What happened, and what to do.

    :param module: name of the module that stopped
    """
    said: str | None = None
    family = type(error).__module__.partition(".")[0]
    if family == "psycopg2":
        said = _of_server(error)
    elif family in ("boto3", "botocore", "urllib3", "s3transfer"):
        said = _of_service(error)
    elif isinstance(error, ImportError):
        missing = error.name or "a library"
        said = f"{missing} cannot be imported; install the project's requirements (make setup) for this Python"
    elif isinstance(error, MemoryError):
        said = "this machine has no memory left; end what else runs on it, or lower jobs"
    elif isinstance(error, OSError):
        said = _of_system(error)
    elif isinstance(error, UnicodeError):
        said = (
            f"text that is no {error.encoding if isinstance(error, UnicodeDecodeError) else 'UTF-8'} was read or given"
        )
    elif type(error).__name__ == "TimeoutExpired":
        said = "a program that it started did not end in time; look at the load of this machine, and run again"
    elif type(error).__name__ == "CalledProcessError":
        said = "a program that it started failed; run it by hand to see what it says"
    elif "can't start new thread" in str(error):
        said = "this machine starts no further thread; raise the limit of processes, or lower jobs"
    if said is not None:
        return f"{module}: {said}; {_ROLLED_BACK}."
    frames = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return (
        f"{module} stopped at {' < '.join(reversed(frames[-3:]))} with {type(error).__name__}, which it should have "
        f"foreseen; {_ROLLED_BACK}. Please report this line."
    )


def _of_server(error: Any) -> str:
    said = ServerError.of(error)
    if said.is_lost_connection:
        return f"{said.reason}; run again when it answers"
    code = said.sqlstate or ""
    fix = next((fix for start, fix in _FIXES if code.startswith(start)), "see to that, and run again")
    return f"the server refused a statement: {said.reason}; {fix}"


#: What to do about an error of the server, by the beginning of its SQLSTATE.
_FIXES = (
    ("42501", "grant the right (playbooks/db_roles.yml), and run again"),
    ("55P03", "another session holds a lock; look at pg_locks, and run again when it is through"),
    ("57014", "the statement ran into its time limit, or somebody cancelled it; run again"),
    ("40", "another session did the same at the same time; run again"),
    ("53100", "make room on the server's disk, and run again"),
    ("53200", "the server has no memory left, or too few locks (max_locks_per_transaction); raise it, and run again"),
    ("53300", "free a connection, or raise max_connections, and run again"),
    ("XX001", "data is damaged: restore it from a backup, and check the server's disks"),
    ("XX002", "an index is damaged: REINDEX it, and check the server's disks"),
    ("25006", "the session may only read; connect to the primary, and look at default_transaction_read_only"),
    ("42P01", "it was dropped or renamed meanwhile; run again"),
)


def _of_service(error: Any) -> str:
    name = type(error).__name__
    code = str(((getattr(error, "response", None) or {}).get("Error") or {}).get("Code") or "")
    operation = getattr(error, "operation_name", "") or "a request"
    if code:
        return f"the service refused {operation} with {code}; see to that, and run again"
    fixes = (
        (
            "Credential",
            "credentials are missing or incomplete; give access_key and secret_key, or a profile",
        ),
        ("ProfileNotFound", "profile: there is none of that name in AWS's configuration files; check it"),
        ("NoRegion", "region is missing; give it"),
        ("InvalidRegion", "region is none; check it"),
        ("ParamValidation", "a name or value is none that the service knows; check bucket, prefix and endpoint_url"),
        ("Config", "AWS's configuration files cannot be read; mend them, or give another profile"),
        ("Proxy", "the proxy does not answer; check HTTPS_PROXY and HTTP_PROXY"),
        ("SSL", "TLS could not be agreed on; check endpoint_url and aws_ca_bundle"),
        ("Endpoint", "endpoint_url does not answer; check it, the network and the firewall"),
        ("Location", "endpoint_url is no address; check it"),
    )
    for part, fix in fixes:
        if part in name:
            return fix
    return f"the connection to the service broke ({name}); run again when it answers"


def _of_system(error: OSError) -> str:
    what = f"{error.filename}: " if isinstance(error.filename, str) and error.filename else ""
    fixes = {
        "PermissionError": "give this user the right to it",
        "FileNotFoundError": "check the path",
        "TimeoutError": "check the network, and run again",
        "ConnectionRefusedError": "see that the server is up, and run again",
        "ConnectionResetError": "see that the server is up, and run again",
        "BrokenPipeError": "the program at the other end ended; run again",
    }
    fix = {28: "make room on that disk", 30: "it is mounted read-only; name another folder", 24: "raise the limit of "
            "open files (ulimit -n)", 122: "raise the quota, or name another folder"}.get(error.errno or 0)  # fmt: skip
    fix = fix or fixes.get(type(error).__name__, "see to that, and run again")
    return f"{what}{error.strerror or type(error).__name__}; {fix}"
