"""playbooks/certificates.yml: databases without being listed, other endpoints once, and what alerts look at."""

from __future__ import annotations

from certificates import certificate, save
from tls_servers import context, serving

from playbooks import Project


def test_databases_are_looked_at_without_being_listed_and_the_rest_once(tmp_path):
    root = certificate(None, days=(-400, 4000))
    ca_cert = save(tmp_path, "root", root)
    good = save(tmp_path, "good", certificate(root, days=(-1, 80)))
    ended = save(tmp_path, "ended", certificate(root, days=(-90, -1)))
    with (
        serving(context(good), habit="postgresql") as first,
        serving(context(ended), habit="postgresql") as second,
        serving(context(good)) as application,
    ):
        project = Project(
            tmp_path,
            {
                "db1": {"db_login_host": "127.0.0.1", "db_login_port": first},
                "db2": {"db_login_host": "127.0.0.1", "db_login_port": second},
            },
            {
                "runbook_environment": "sandbox",
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "db_ssl_mode": "verify-full",
                "db_ca_cert": ca_cert,
                "certificates_endpoints": [
                    {"name": "app", "host": "127.0.0.1", "port": application, "ca_cert": ca_cert, "path": good}
                ],
                "certificates_timeout_s": 60,
            },
        )
        run = project.run("certificates.yml")
    results = run.results["tls_certificate_info"]
    found = [each for result in results for each in result["addresses"]]
    assert {each["endpoint"]: each["renewal"] for each in found} == {
        "db1": "current",
        "app": "current",
        "db2": "expired",
    }, run.output
    assert len(found) == 3
    assert run.code == 2
    assert "db2: lifetime (breach): It expired on" in run.output
    assert run.record is not None
    metrics = (run.record / "metrics.prom").read_text()
    kept = [line for line in metrics.splitlines() if line.startswith("runbook_tls_ok{")]
    assert {(part, line[-3:]) for line in kept for part in ("app", "db1", "db2") if f'endpoint="{part}"' in line} == {
        ("app", "1.0"),
        ("db1", "1.0"),
        ("db2", "0.0"),
    }
    assert metrics.count("\nrunbook_tls_due_timestamp_seconds{") == 3
    report = (run.record / "report.md").read_text()
    assert "What each address shows" in report
