"""Certificates of 200 servers, side by side: the runbook's openssl line, blackbox_exporter, and this project.

``python -m bench.certificates`` fills its table of bench/README.md; it takes some minutes. All servers are one nginx on
loopback, each with a port and a certificate of its own, on the same cores as everything else. A network is played by a
relay that keeps each piece of data for half a round trip. It needs nginx, openssl, curl and
prometheus-blackbox-exporter.

blackbox_exporter is asked by one curl for all targets at once, as Prometheus asks it. This project shakes hands twice
with each server, the second time to see whether TLS 1.0 and 1.1 are refused; so it is asked twice for each target as
well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import ROOT, module
from bench.weekly import write_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
#: Time from one end of the played network to the other.
HALF_ROUND_TRIP_S = 0.025
#: Servers that accept and say nothing, and how long they are waited for.
SILENT, PATIENCE_S = 20, 2
MIB = 1 << 20


def certificates(folder: Path, number: int) -> Path:
    """A root, and a certificate for each server; the root's file."""
    sys.path.insert(0, str(ROOT / "tests"))
    from certificates import certificate, save

    root = certificate(None, days=(-400, 4000))
    for index in range(number):
        save(folder, f"server{index}", certificate(root, days=(-1, 80), host=HOST))
    return Path(save(folder, "root", root))


@contextmanager
def servers(folder: Path, ports: list[int]) -> Iterator[None]:
    """One nginx that serves a certificate on each port."""
    blocks = "\n".join(
        f"server {{ listen {HOST}:{port} ssl backlog=1024; ssl_certificate {folder}/server{index}.crt; "
        f"ssl_certificate_key {folder}/server{index}.key; }}"
        for index, port in enumerate(ports)
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{ worker_connections 8192; }}\n"
        f"http {{ access_log off; {temporary} ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off;\n{blocks}\n}}\n"
    )
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    with running([program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]):
        _wait(lambda: asyncio.run(_answers(ports[-1])))
        yield


@contextmanager
def running(words: list[str]) -> Iterator[None]:
    """A program until the end of the block."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def _answers(port: int) -> bool:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.close()
    return True


def _wait(is_there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while True:
        with suppress(OSError):
            if is_there():
                return
        if time.monotonic() > end:
            raise SystemExit("A server did not start within a minute; run it by hand to see why.")
        time.sleep(0.1)


@contextmanager
def far_away(ports: list[int]) -> Iterator[list[int]]:
    """The same servers behind a network; their ports there."""
    there = free_ports(len(ports))
    pairs = ",".join(f"{outer}:{inner}" for outer, inner in zip(there, ports, strict=True))
    with running([sys.executable, "-m", "bench.certificates", "--relay", pairs]):
        _wait(lambda: asyncio.run(_answers(there[-1])))
        yield there


async def relay(pairs: list[tuple[int, int]]) -> None:
    """Pass on what comes, half a round trip later; a port without another one is silent."""
    loop = asyncio.get_running_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(65_536)
            loop.call_later(HALF_ROUND_TRIP_S, writer.write if data else lambda _: writer.close(), data)
            if not data:
                return

    async def connected(inner: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not inner:
            await asyncio.sleep(3600)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(HOST, inner)
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    def to(inner: int) -> Any:
        return lambda reader, writer: connected(inner, reader, writer)

    for outer, inner in pairs:
        await asyncio.start_server(to(inner), HOST, outer, backlog=1024)
    await asyncio.Event().wait()


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    import socket

    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in made:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in made]


# --- the ways ---------------------------------------------------------------------------------------------------------


def runbook(ports: list[int]) -> None:
    """The runbook's line for each server, one after the other."""
    for port in ports:
        look = f"openssl s_client -servername {HOST} -connect {HOST}:{port} 2>/dev/null"
        line = f"echo | {look} | openssl x509 -noout -dates"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        if "notAfter" not in done.stdout:
            raise SystemExit(f"openssl saw no certificate on port {port}.")


@contextmanager
def exporter(folder: Path, root: Path) -> Iterator[int]:
    """A blackbox_exporter that shakes hands and verifies; its port."""
    (folder / "blackbox.yml").write_text(
        "modules:\n  tls: {prober: tcp, timeout: 60s, tcp: {tls: true, preferred_ip_protocol: ip4, "
        f"tls_config: {{ca_file: {root}, min_version: TLS10}}}}}}\n"
    )
    (port,) = free_ports(1)
    program = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if program is None:
        raise SystemExit("prometheus-blackbox-exporter is not installed.")
    words = [program, f"--config.file={folder / 'blackbox.yml'}", f"--web.listen-address={HOST}:{port}"]
    with running(words):
        _wait(lambda: asyncio.run(_answers(port)))
        yield port


def blackbox(port: int, ports: list[int], folder: Path, times: int) -> None:
    """All targets at once, so many times each; one curl asks."""
    urls = [f"http://{HOST}:{port}/probe?module=tls&target={HOST}:{each}" for each in ports] * times
    (folder / "urls").write_text("\n".join(f'url="{each}"\noutput="{folder}/answer"' for each in urls))
    subprocess.run(
        ["curl", "--silent", "--no-progress-meter", "--parallel", "--parallel-max", "300", "--config",
         str(folder / "urls")],
        check=True,
    )  # fmt: skip
    with urllib.request.urlopen(urls[0], timeout=60) as answer:  # noqa: S310 - on loopback
        if b"probe_success 1" not in answer.read():
            raise SystemExit("blackbox_exporter did not accept a certificate.")


def ours(ports: list[int], root: Path, *, silent: list[int] | None = None) -> None:
    """The module, as a playbook runs it: in a fork of a process that has imported it before."""
    from conftest import run_module

    done = run_module("tls_certificate_info", asked(ports, root, silent))
    seen = done.result.get("looked_at")
    if seen != len(ports):
        raise SystemExit(f"{seen} of {len(ports)} certificates were seen: {done.result['msg']}")


def asked(ports: list[int], root: Path, silent: list[int] | None = None) -> dict[str, Any]:
    """Options of the module."""
    endpoints = [
        {"name": f"{index}", "host": HOST, "port": port, "ca_cert": str(root)} for index, port in enumerate(ports)
    ]
    endpoints += [{"name": f"silent {index}", "host": HOST, "port": port} for index, port in enumerate(silent or ())]
    return {"endpoints": endpoints, "timeout_s": PATIENCE_S if silent else 60}


def measured(act: Callable[[], None]) -> float:
    """How many seconds an act takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def table(samples: dict[str, list[float]]) -> list[str]:
    """Medians of all runs, beside the other ways of the same network."""
    lines = ["| way | wall s | × faster than openssl | × faster than blackbox_exporter, two handshakes |"]
    lines.append("|---|---|---|---|")
    runbook_s = exporter_s = 0.0
    walls = {name: statistics.median(found) for name, found in samples.items()}
    for name, wall_s in walls.items():
        if name.startswith("openssl"):
            runbook_s = wall_s
            exporter_s = next(walls[other] for other in walls if "two" in other and other.endswith(name[-8:]))
        lines.append(f"| {name} | {wall_s:.2f} | {runbook_s / wall_s:.1f} | {exporter_s / wall_s:.2f} |")
    return lines


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=200, help="servers")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the table shows medians")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing it")
    parser.add_argument("--relay", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.relay:
        pairs = [tuple(map(int, each.split(":"))) for each in arguments.relay.split(",")]
        asyncio.run(relay(pairs))  # type: ignore[arg-type] # pairs
        return
    samples: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-certificates-")))
        folder.chmod(0o755)
        root, near = certificates(folder, arguments.endpoints), free_ports(arguments.endpoints)
        stack.enter_context(servers(folder, near))
        port = stack.enter_context(exporter(folder, root))
        far = stack.enter_context(far_away(near))
        silent = free_ports(SILENT)
        stack.enter_context(
            running([sys.executable, "-m", "bench.certificates", "--relay", ",".join(f"{each}:0" for each in silent)])
        )
        _wait(lambda: asyncio.run(_answers(silent[-1])))
        for place, ports in (("loopback", near), ("50 ms away", far)):
            ways: dict[str, Callable[[], None]] = {
                "openssl, one after the other": partial(runbook, ports),
                "blackbox_exporter, one handshake": partial(blackbox, port, ports, folder, 1),
                "blackbox_exporter, two handshakes": partial(blackbox, port, ports, folder, 2),
                "tls_certificate_info": partial(ours, ports, root),
                "tls_certificate_info, the servers four times": partial(ours, ports * 4, root),
                f"tls_certificate_info, and {SILENT} silent ones for {PATIENCE_S} s": partial(
                    ours, ports, root, silent=silent
                ),
            }
            ours(near[:1], root)  # imports
            for _ in range(arguments.repeat):
                for name, act in ways.items():
                    wall_s = measured(act)
                    samples[f"{name}, {place}"].append(wall_s)
                    print(f"  {name}, {place}: {wall_s:.2f} s", flush=True)
        memory = {times: module("tls_certificate_info", asked(near * times, root))[1] for times in (1, 4)}
    report = [
        f"{arguments.endpoints} servers, {os.cpu_count()} cores; medians of {arguments.repeat} runs.", "",
        *table(samples), "",
        f"The module's peak memory: {memory[1] / MIB:.0f} MB, and {memory[4] / MIB:.0f} MB for four times as many.", "",
    ]  # fmt: skip
    if arguments.print:
        print("\n".join(report))
    else:
        write_tables("certificates", report)


if __name__ == "__main__":
    main()
