"""Why a connection to PostgreSQL could not be made: what was found, and the fix.

libpq has no code for it, only sentences, some of its own and some of the server's; PostgreSQL's programs print the same
ones. Each that an operator meets is known here by a part of it. The server's words are not passed on: a trigger on
``login`` can say anything. The parts are those of libpq's ``fe-connect.c``, ``fe-auth.c`` and ``fe-secure-openssl.c``,
of the server's ``auth.c``, ``postinit.c``, ``postmaster.c`` and ``dfmgr.c``, and of PgBouncer and Supavisor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

#: ``away``: nobody is there, or not yet; another try may do. ``full``: no connection is free. ``refused``: something
#: has to be mended. ``tls``: likewise, and it is about certificates or encryption.
Kind = Literal["away", "full", "refused", "tls"]

_TLS: Kind = "tls"
_REFUSED: Kind = "refused"
_AWAY: Kind = "away"
_FULL: Kind = "full"

#: Looked for in this order: what the server said tells more than that a second address did not answer.
_KNOWN: tuple[tuple[str, Kind, str, str], ...] = (
    # Settings that the session starts with.
    (r"could not access file|could not load library|access to library", _REFUSED,
     "the server cannot load a library that is named in session_preload_libraries or local_preload_libraries",
     "install it, or take it from that setting (ALTER ROLE … RESET, ALTER DATABASE … RESET, postgresql.conf)"),
    ((r"unrecognized configuration parameter|invalid value for parameter|permission denied to set parameter"
     r"|cannot be changed|unsupported startup parameter"), _REFUSED,
     "the server refuses a setting that the connection begins with", "check the options of the dsn"),
    # Who may.
    (r"no password supplied", _REFUSED, "the server wants a password and none was given", "set login_password"),
    ((r"password authentication failed|SASL authentication failed|server login failed|no such user"
     r"|[Tt]enant or user not found"), _REFUSED,
     "wrong user or password", "check login_user and login_password"),
    (r"valid client certificate", _TLS,
     "the server wants a client certificate", "name one in a dsn (sslcert, sslkey)"),
    (r"certificate authentication failed", _TLS,
     "the client certificate is another user's", "check sslcert of the dsn, and login_user"),
    (r"(?:Peer|Ident) authentication failed", _REFUSED,
     "pg_hba.conf goes by the user of the operating system (peer, ident)",
     "run this as that user, or give the line scram-sha-256 and the role a password"),
    (r"GSSAPI|SSPI|Kerberos", _REFUSED, "the server wants Kerberos and there is no ticket",
     "run kinit first, or give the pg_hba.conf line scram-sha-256"),
    (r"(?:LDAP|RADIUS|PAM|BSD|OAuth\w*) \w*authentication failed", _REFUSED,
     "the directory that the server asks (LDAP, RADIUS, PAM) did not admit this user",
     "check login_user and login_password, and that the directory answers the server"),
    ((r"authentication method \S+ not supported|SASL authentication mechanisms|channel binding|SCRAM"
     r"|authentication method requirement"), _REFUSED,
     "the server wants a way of logging in that this client does not know", "give the pg_hba.conf line scram-sha-256"),
    (r"pg_hba\.conf rejects", _REFUSED, "a line of pg_hba.conf rejects this address, user and database",
     "change that line, or connect from elsewhere"),
    (r"no pg_hba\.conf entry.*(?:SSL encryption|GSS encryption|SSL on)", _REFUSED,
     "pg_hba.conf admits no such connection", "add a line for this address, user and database"),
    (r"no pg_hba\.conf entry", _REFUSED,
     "pg_hba.conf admits no unencrypted connection of this address, user and database",
     "add a line for them; where only hostssl is admitted, set ssl_mode to require, and use clients built with TLS"),
    (r"role .* does not exist", _REFUSED, "there is no role of that name", "check login_user"),
    (r"not permitted to log in", _REFUSED, "that role may not log in", "ALTER ROLE … LOGIN, or check login_user"),
    # Which database.
    (r"dropped or renamed", _REFUSED, "that database was dropped or renamed this moment", "check login_db"),
    (r"database .* does not exist|no such database", _REFUSED, "there is no database of that name", "check login_db"),
    (r"cannot connect to invalid database|invalid database", _REFUSED,
     "a DROP DATABASE of it was interrupted, and nobody can use it any more", "drop it, and restore it from a backup"),
    (r"not currently accepting connections", _REFUSED,
     "that database lets nobody in (ALLOW_CONNECTIONS false)",
     "wait for the swap or restore that closed it, or ALTER DATABASE … ALLOW_CONNECTIONS true"),
    (r"permission denied for database|CONNECT privilege", _REFUSED,
     "that role may not connect to that database", "GRANT CONNECT ON DATABASE … to it"),
    # How many.
    (r"too many connections for role", _FULL, "that role has reached its connection limit",
     "end a session of it, or ALTER ROLE … CONNECTION LIMIT"),
    (r"too many connections for database", _FULL, "that database has reached its connection limit",
     "end a session in it, or ALTER DATABASE … CONNECTION LIMIT"),
    (r"remaining connection slots", _FULL, "the server has no free connection but those reserved for superusers",
     "end a session, raise max_connections, or grant pg_use_reserved_connections"),
    ((r"too many clients|no more connections allowed|[Mm]ax client connections|query_wait_timeout"
     r"|max_client_conn|MaxClientsInSessionMode"), _FULL,
     "the server, or the pooler before it, has no free connection", "end a session, or raise max_connections"),
    # Not now.
    (r"starting up|not yet accepting|[Cc]onsistent recovery state", _AWAY, "the server is starting up",
     "wait until it has; its log says how far it is"),
    (r"in recovery mode", _AWAY, "the server is recovering from a crash", "wait until it has; look at its log for why"),
    (r"shutting down|administrator command|canceling authentication", _AWAY, "the server is being stopped",
     "wait until it is back"),
    (r"is not accepting connections|Hot standby mode is disabled", _AWAY,
     "the server lets nobody in while it recovers", "wait until it has, or set hot_standby = on"),
    (r"in hot standby mode|session is read-only|session is not read-only", _REFUSED,
     "the server is not of the kind that target_session_attrs asks for", "check the hosts of the dsn"),
    (r"out of memory|could not fork|No space left|too many open files", _FULL,
     "the server's machine is out of memory, processes or disk", "make room there"),
    # TLS.
    (r"invalid when SSL support is not compiled in|SSL support is not|not built with SSL", _TLS,
     "this client was built without TLS", "install PostgreSQL's own client programs, and name their folder in bindir"),
    (r"does not support SSL", _TLS, "the server speaks no TLS",
     "switch it on there (ssl = on), or set ssl_mode to disable where the network is trusted"),
    (r"root certificate file .* does not exist", _TLS,
     "the file of the certificate authority is not there",
     "name it in ca_cert; ssl_mode verify-ca and verify-full need it"),
    (r"could not read root certificate file|could not load system root certificate", _TLS,
     "the file of the certificate authority holds no certificate", "check ca_cert: it must be PEM"),
    (r"does not match host name|could not get server's host name", _TLS,
     "the server's certificate is for another host name",
     "connect by a name that stands in it, or have it made for this one; verify-ca does not look at names"),
    (r"verify failed: (?:certificate has )?expired", _TLS, "the server's certificate has expired",
     "have it renewed; check the clock of this machine too"),
    (r"verify failed: (?:certificate is )?not yet valid", _TLS, "the server's certificate is not valid yet",
     "check the clock of this machine"),
    (r"verify failed: self.signed", _TLS, "the server's certificate is signed by itself, and ca_cert does not hold it",
     "put it into ca_cert, or have it signed by an authority"),
    (r"verify failed: unable to get|verify failed: unknown", _TLS,
     "the server's certificate is signed by an authority that ca_cert does not hold",
     "name that authority's certificate in ca_cert"),
    (r"verify failed: (?:certificate )?revoked", _TLS, "the server's certificate was revoked", "have it renewed"),
    (r"certificate verify failed", _TLS, "the server's certificate cannot be trusted",
     "compare it with ca_cert (openssl s_client -starttls postgres)"),
    (r"private key file|certificate file|could not load (?:certificate|private key)", _TLS,
     "the client certificate or its key cannot be used",
     "check sslcert and sslkey of the dsn; the key must be readable by this user alone, and belong to the certificate"),
    (r"alert unknown ca|alert bad certificate|alert certificate (?:required|unknown|expired|revoked)", _TLS,
     "the server does not trust the client certificate", "give one that its ssl_ca_file has signed, and that is valid"),
    (r"protocol version|unsupported protocol|no protocols available|handshake failure|no shared cipher", _TLS,
     "server and client have no TLS version or cipher in common", "update the older one; see ssl_min_protocol_version"),
    # Who answers.
    ((r"expected authentication request|invalid response to (?:SSL|GSSAPI) negotiation|wrong version number"
     r"|unencrypted data after|unsupported frontend protocol|invalid message|message type 0x"), _REFUSED,
     "what answers there is no PostgreSQL server", "check login_port; it is 5432 as a rule"),
    (r"name resolution", _AWAY, "the host name cannot be looked up, because no name server answers",
     "check the name server of this machine"),
    (r"could not translate host name|could not look up|No address associated", _REFUSED,
     "there is no host of that name", "check login_host"),
    (r"invalid port number|invalid integer value", _REFUSED, "the port is none", "check login_port"),
    (r"invalid sslmode|invalid connection option|invalid \w+ value", _REFUSED,
     "the dsn holds a value that libpq does not know", "check its parameters"),
    (r"Permission denied", _REFUSED, "this user may not open the server's socket", "run this as another user"),
    (r"Connection refused", _AWAY, "no server answers there",
     "check login_host and login_port, and that the server is up"),
    (r"on socket .* failed: No such file", _AWAY, "no server answers there: it has no such socket",
     "check login_host (the folder of the socket), login_port, and that the server is up"),
    (r"Network is unreachable|No route to host|Cannot assign requested address|Address family", _AWAY,
     "there is no way to that address from here (an IPv6 address where only IPv4 goes?)",
     "check the network, or use a name or pooler with an IPv4 address"),
    (r"timeout expired|timed out", _AWAY, "no answer in time",
     "check login_host, login_port, the network and the firewall"),
    (r"closed the connection|Connection reset|EOF detected|Broken pipe|SSL SYSCALL|could not (?:send|receive)", _AWAY,
     "the connection was closed before it stood",
     "look at the log of the server, or of what stands before it; check login_port"),
)  # fmt: skip

#: By this alone it is known that a program could not connect.
_TRIED = re.compile(r"connection to server |could not translate host name|could not connect|SSL support is not")


@dataclass(frozen=True)
class ConnectionFailure:
    """Why there is no connection."""

    kind: Kind
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.found}; {self.fix}"

    @classmethod
    def of(cls, text: str) -> ConnectionFailure:
        """Read what libpq said.

        >>> str(ConnectionFailure.of('connection to server at "db" failed: fe_sendauth: no password supplied'))
        'the server wants a password and none was given; set login_password'
        """
        plain = " ".join(text.split())
        for pattern, kind, found, fix in _KNOWN:
            if re.search(pattern, plain):
                return cls(kind, found, fix)
        return cls("refused", "the server or the network refused it", "the server's log says why")

    @classmethod
    def of_program(cls, text: str) -> ConnectionFailure | None:
        """Read what a program printed; None where it was connected."""
        return cls.of(text) if _TRIED.search(text) and "server closed the connection" not in text else None
