"""Each way of not being let in has its own sentence; the messages are those of libpq 17 and of servers from 14 on."""

from __future__ import annotations

import doctest

import pytest
from ansible.module_utils.runbook.rules.backup import backup, restore
from ansible.module_utils.runbook.rules.postgres import connection_failure
from ansible.module_utils.runbook.rules.postgres.connection_failure import ConnectionFailure

TO = 'connection to server at "127.0.0.1", port 5432 failed: '
NO_TLS = f'\n{TO}FATAL:  no pg_hba.conf entry for host "127.0.0.1", user "u", database "d", no encryption\n'

SAID = [
    ("refused", "no host of that name", 'could not translate host name "x" to address: Name or service not known'),
    ("away", "no name server", 'could not translate host name "x" to address: Temporary failure in name resolution'),
    ("away", "no server answers there", TO + "Connection refused\n\tIs the server running on that host"),
    ("away", "no such socket", 'connection to server on socket "/tmp/.s.PGSQL.1" failed: No such file or directory'),
    ("away", "no way to that address", TO + "Network is unreachable"),
    ("away", "no answer in time", TO + "timeout expired"),
    ("away", "closed before it stood", TO + "server closed the connection unexpectedly\n\tThis probably means"),
    ("refused", "no PostgreSQL server", TO + "received invalid response to SSL negotiation: H"),
    ("refused", "no PostgreSQL server", TO + "expected authentication request from server, but received S"),
    ("refused", "no database of that name", TO + 'FATAL:  database "nope" does not exist'),
    ("refused", "renamed this moment", TO + 'FATAL:  database "x" does not exist\nDETAIL:  It seems to have just been '
     "dropped or renamed."),
    ("refused", "lets nobody in", TO + 'FATAL:  database "x" is not currently accepting connections'),
    ("refused", "interrupted", TO + 'FATAL:  cannot connect to invalid database "x"\nHINT:  Use DROP DATABASE'),
    ("refused", "may not connect", TO + 'FATAL:  permission denied for database "x"\nDETAIL:  User does not have'),
    ("refused", "no role of that name", TO + 'FATAL:  role "nope" does not exist'),
    ("refused", "may not log in", TO + 'FATAL:  role "nolog" is not permitted to log in'),
    ("full", "that role has reached", TO + 'FATAL:  too many connections for role "lim"'),
    ("full", "that database has reached", TO + 'FATAL:  too many connections for database "dlim"'),
    ("full", "reserved", TO + "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute"),
    ("full", "no free connection", TO + "FATAL:  sorry, too many clients already"),
    ("full", "no free connection", TO + "FATAL:  no more connections allowed (max_client_conn)"),
    ("refused", "cannot load a library", TO + 'FATAL:  could not access file "nothere": No such file or directory'),
    ("refused", "a setting", TO + 'FATAL:  unrecognized configuration parameter "nosuch"'),
    ("refused", "a setting", TO + "FATAL:  unsupported startup parameter: options"),
    ("away", "is starting up", TO + "FATAL:  the database system is starting up"),
    ("away", "is starting up", TO + "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent"
     " recovery state has not been yet reached."),
    ("away", "recovering from a crash", TO + "FATAL:  the database system is in recovery mode"),
    ("away", "being stopped", TO + "FATAL:  the database system is shutting down"),
    ("away", "lets nobody in while it recovers", TO + "FATAL:  the database system is not accepting connections\n"
     "DETAIL:  Hot standby mode is disabled."),
    ("refused", "password and none was given", TO + "fe_sendauth: no password supplied"),
    ("refused", "wrong user or password", TO + 'FATAL:  password authentication failed for user "u"' + NO_TLS),
    ("refused", "operating system", TO + 'FATAL:  Peer authentication failed for user "u"'),
    ("refused", "operating system", TO + 'FATAL:  Ident authentication failed for user "u"'),
    ("refused", "directory", TO + 'FATAL:  LDAP authentication failed for user "u"'),
    ("refused", "directory", TO + 'FATAL:  RADIUS authentication failed for user "u"'),
    ("refused", "Kerberos", TO + "GSSAPI continuation error: Unspecified GSS failure."),
    ("refused", "does not know", TO + "authentication method 10 not supported"),
    ("refused", "rejects", TO + 'FATAL:  pg_hba.conf rejects connection for host "127.0.0.1", SSL encryption' + NO_TLS),
    ("refused", "no unencrypted connection", TO.rstrip() + NO_TLS),
    ("refused", "admits no such", TO + 'FATAL:  no pg_hba.conf entry for host "::1", user "u", SSL encryption'),
    ("tls", "speaks no TLS", TO + "server does not support SSL, but SSL was required"),
    ("tls", "built without TLS", 'sslmode value "require" invalid when SSL support is not compiled in'),
    ("tls", "is not there", TO + 'root certificate file "/x.crt" does not exist\nEither provide the file, use the '
     "system's trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification."),
    ("tls", "holds no certificate", TO + 'could not read root certificate file "/x": no certificate or crl found'),
    ("tls", "another host name", TO + 'server certificate for "a" (and 1 other name) does not match host name "b"'),
    ("tls", "has expired", f"verify failed: certificate has expired {TO}SSL error: certificate verify failed"),
    ("tls", "not valid yet", f"verify failed: certificate is not yet valid {TO}SSL error: certificate verify failed"),
    ("tls", "ca_cert does not hold", f"verify failed: unable to get local issuer {TO}certificate verify failed"),
    ("tls", "signed by itself", f"verify failed: self-signed certificate {TO}SSL error: certificate verify failed"),
    ("tls", "cannot be trusted", TO + "SSL error: certificate verify failed"),
    ("tls", "wants a client certificate", TO + "FATAL:  connection requires a valid client certificate" + NO_TLS),
    ("tls", "another user's", TO + 'FATAL:  certificate authentication failed for user "u"'),
    ("tls", "does not trust", TO + "SSL error: tlsv1 alert unknown ca"),
    ("tls", "cannot be used", TO + 'certificate present, but not private key file "/no.key"'),
    ("tls", "cannot be used", TO + 'could not load private key file "/x.key": key values mismatch'),
    ("tls", "no TLS version", TO + "SSL error: tlsv1 alert protocol version\nThis may indicate that the server"),
    ("refused", "the port is none", 'invalid port number: "99999"'),
    ("refused", "target_session_attrs", TO + "server is not in hot standby mode"),
    ("full", "out of memory", TO + "FATAL:  out of memory"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "said"), SAID, ids=[f"{found}-{n}" for n, (_, found, _) in enumerate(SAID)])
def test_what_libpq_says_is_told_apart(kind, found, said):
    failure = ConnectionFailure.of(said)
    assert (failure.kind, found in failure.found) == (kind, True), failure


def test_the_same_is_found_in_what_programs_print():
    for _, found, said in SAID:
        if said.startswith("connection to") and "server closed" not in said:
            assert found in backup.explain_tool("pg_dump", 1, f"pg_dump: error: {said}"), said
            lines = f"pg_restore: error: {said}".splitlines()
            assert found in restore.explain(lines, step="the data", target="x"), said


def test_what_nobody_knows_is_not_passed_on():
    failure = ConnectionFailure.of(TO + "FATAL:  ssn 078-05-1120")
    assert "078" not in str(failure)
    assert "log" in failure.fix


def test_a_program_that_was_connected_did_not_fail_to():
    assert ConnectionFailure.of_program("pg_dump: error: query failed: ERROR:  out of memory") is None


def test_doctests():
    assert doctest.testmod(connection_failure).failed == 0
