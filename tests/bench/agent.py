"""The benchmark of the agent: what it costs while nothing happens, how long a release takes from the S3 server to `current`, and
how long an administrator waits for it, here or from afar.

    agent.py [--polls N] [--pairs N] [--tries N] [--only idle|start|deploy|fetch|hand|polite|ssm|node|jvm|binary|tiny|pack|huge]

Started by run.py inside the sandbox. A host with systemd runs the installed agent against the S3 server over TLS; the release is
the real application of the tests. It measures everything and prints the table; then it ends with 1 if a target was missed.
"""

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

import application
import fault_proxy
import host as host_module
import polite
import releases
import s3_server
import sandbox
import slipway
import ssm
import toy
from common import (DEPLOY_LIMIT_SEC, MANIFEST, N_POLLS_FORGET, UNIT, Bench, CloseAfterAnswer, Processes, Row, count_polls,
                    make_disk, memory_row, parts, print_table, report_missed, verdict, wait_current, wait_idle, wait_polls)
from waiting import wait_for

POLLS_PER_SAMPLE = 20
N_SAMPLES_MIN = 5
N_POLLS_WARM_UP = 30
N_POLLS_RECONNECT = 20
N_POLLS_CURL = 20
N_APPS_TOGETHER = 8
IDLE_PSS_MAX_MB = 12
IDLE_CPU_MAX_USEC = 250
DEPLOY_RATIO_MAX = 1.0
ROLLBACK_MAX_MSEC = 50
STOP_MAX_MSEC = 1000
FETCH_RATIO_MIN = 0.95
RANGE_BYTES, N_RANGES = 8 << 20, 4  # agent/spool.h, agent/fetch.c
PACE_BYTES_SEC = 16 << 20
START_SEC = 40
BUCKET = "bench"
ARTIFACT = "web/releases/large/artifact.tar.zst"
PRESIGNED_SEC = 3600
# what is measured ends at `current`: nothing to restart or to watch
SPEC = {"activate": {}}


# -- from the store to `current`

def measure_deploy(bench, host):
    """Seconds from `slipway poll` with a new manifest in the store until `current` points to the release, on a host that has
    nothing of it."""
    host.stop_unit(UNIT)
    host.run(["sh", "-c", "rm -rf /srv/web /var/lib/slipway/* /var/cache/slipway/*"])
    bench.go_to("small")
    host.start_unit(UNIT)
    wait_idle(host, "small")
    bench.go_to("large")
    host.run(["sync"])
    started = time.monotonic()
    host.run(["slipway", "poll", "web"])
    took_sec = wait_current(host, "large") - started
    wait_idle(host, "large")
    return took_sec


def measure_tar(host, url, command):
    host.run(["sh", "-c", "rm -rf /srv/plain && mkdir /srv/plain && sync"])
    started = time.monotonic()
    host.run(["bash", "-e", "-o", "pipefail", "-c", f'curl -sSf "$1" | {command}', "bash", url])
    return time.monotonic() - started


def deploy_rows(bench, directory, name, n_pairs):
    url = bench.s3.client(tls=True).generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": "deploy/web/releases/large/artifact.tar.zst"}, ExpiresIn=PRESIGNED_SEC)
    plain, synced = "tar --zstd -x -C /srv/plain", "tar --zstd -x -C /srv/plain && sync -f /srv/plain"
    ours, tar, tar_synced = [], [], []
    with bench.host(directory) as host:
        bench.configure(host, interval="1h")
        # the first round is not counted: it fills the caches of the server and of the programs
        for n in range(n_pairs + 1):
            for into, measure in ((ours, lambda: measure_deploy(bench, host)),
                                  (tar, lambda: measure_tar(host, url, plain)),
                                  (tar_synced, lambda: measure_tar(host, url, synced))):
                took_sec = measure()
                into += [took_sec] if n > 0 else []
        n_files = int(host.run(["sh", "-c", "find /srv/web/current/ -type f | wc -l"]).stdout)

    def ratio(to):
        return statistics.median(a / b for a, b in zip(ours, to))

    def seconds(values):
        return f"{statistics.median(values):.2f} s"

    return [
        Row(f"deploy, {name}: to current, synced", seconds(ours), "1", f"{n_files} files, median of {n_pairs}"),
        Row(f"deploy, {name}: curl | tar --zstd -x", seconds(tar), f"{ratio(tar):.2f}",
            verdict(round(ratio(tar), 2), DEPLOY_RATIO_MAX)),
        Row(f"deploy, {name}: the same, then sync -f", seconds(tar_synced), f"{ratio(tar_synced):.2f}"),
    ]


# -- from the store alone

class Paced(fault_proxy.Fault):
    """Gives each connection no more than so many bytes a second, as S3 does."""

    def after(self, handler, answer):
        def pieces():
            began, n = time.monotonic(), 0
            for piece in answer.pieces:
                yield piece
                n += len(piece)
                time.sleep(max(0, began + n / PACE_BYTES_SEC - time.monotonic()))
        return fault_proxy.Upstream(answer.status, answer.headers, pieces(), answer.length)


def curl_ranges(url, size, directory):
    """A configuration of curl that fetches an object in our ranges."""
    lines = []
    for n, first in enumerate(range(0, size, RANGE_BYTES)):
        last = min(first + RANGE_BYTES, size) - 1
        lines += ["next"] * (n > 0) + [f'url = "{url}"', f'range = "{first}-{last}"', f'output = "{directory}/{n}"', "silent",
                                       "show-error", "fail"]
    return "\n".join(lines) + "\n"


def compare_fetches(bench, directory, endpoint, n_pairs):
    """Seconds for our own fetching of an object, as slipway-fetch does it, and for curl's of the same ranges, as many at a
    time; in turn, and each file new."""
    client = bench.s3.client(endpoint=endpoint)
    content = client.get_object(Bucket=BUCKET, Key=f"deploy/{ARTIFACT}")["Body"].read()
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": f"deploy/{ARTIFACT}"},
                                        ExpiresIn=PRESIGNED_SEC)
    ours_in, curl_in = directory / "ours", directory / "curl"
    for place in (ours_in, curl_in):
        place.mkdir(parents=True)
    (directory / "curl.conf").write_text(curl_ranges(url, len(content), curl_in), encoding="utf-8")
    curl = ["curl", "--parallel", "--parallel-max", str(N_RANGES), "--parallel-immediate", "--config", directory / "curl.conf"]
    environment = {**os.environ, **slipway.store_environment(bench.s3, endpoint=endpoint),
                   "CURL_CA_BUNDLE": str(bench.s3.authority.path)}
    command = [bench.program("fetch-object"), bench.publisher.url, ARTIFACT, str(len(content)),
               hashlib.sha256(content).hexdigest(), ours_in]
    ours, theirs = [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as fetcher:
        for n in range(n_pairs + 1):
            fetcher.stdin.write("\n")
            fetcher.stdin.flush()
            took = float(fetcher.stdout.readline())
            began = time.monotonic()
            subprocess.run(curl, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if n > 0:  # the first round fills caches
                ours.append(took)
                theirs.append(time.monotonic() - began)
            assert sum(f.stat().st_size for f in curl_in.iterdir()) == len(content)
            for file in curl_in.iterdir():
                file.unlink()
        fetcher.stdin.close()
    shutil.rmtree(directory)
    return len(content), ours, theirs


def fetch_rows(bench, n_pairs):
    rows = []
    with bench.proxy() as proxy:
        proxy.fault(r"artifact\.tar\.zst", Paced())
        for name, endpoint in (("as fast as it comes", bench.s3.tls_endpoint),
                               (f"{PACE_BYTES_SEC >> 20} MB/s a connection", proxy.endpoint)):
            size, ours, theirs = compare_fetches(bench, bench.work / "fetch", endpoint, n_pairs)
            ratio = statistics.median(b / a for a, b in zip(ours, theirs))
            rows.append(Row(f"fetch: {name}", f"{size / statistics.median(ours) / 1e6:.0f} MB/s",
                            f"{ratio:.2f} of curl --parallel",
                            f"{'reached' if ratio >= FETCH_RATIO_MIN else 'MISSED'}: at least {FETCH_RATIO_MIN}"
                            f" (median of {n_pairs})"))
    return rows


# -- while nothing happens

def assert_unchanged(proxy, first):
    answers = {r.status for r in proxy.seen(MANIFEST, "GET")[first:]}
    assert answers == {304}, f"polls were answered otherwise than with 304: {answers}"


def sample_polls(proxy, processes, n_samples, n_per_sample):
    """CPU of a poll in microseconds, one value for each so many polls."""
    samples = []
    for _ in range(n_samples):
        before, seen = processes.cpu_usec(), count_polls(proxy)
        wait_polls(proxy, n_per_sample)
        samples.append((processes.cpu_usec() - before) / (count_polls(proxy) - seen))
    return samples


def sample_together(bench, n_samples):
    """The same for several applications whose polls come together, on as many connections: what a poll takes that does not
    find the caches cold."""
    names = [f"app{n}" for n in range(N_APPS_TOGETHER)]
    for name in names:
        bench.publisher.run("release", "--store", bench.publisher.url, "--app", name, "--channel", "prod",
                            "--key", bench.publisher.key_path, bench.small)
    with bench.host_apart(bench.work / "together") as host, bench.proxy() as proxy:
        bench.configure(host, endpoint=proxy.endpoint, interval="1s",
                        apps=[{"app": name, "channel": "prod", "root": f"/srv/{name}"} for name in names])
        host.start_unit(UNIT)
        for name in names:
            wait_for(lambda name=name: (host.work / f"srv/{name}/current").is_symlink(), DEPLOY_LIMIT_SEC, f"{name} on {host}")
        wait_polls(proxy, N_POLLS_WARM_UP * N_APPS_TOGETHER)
        first = count_polls(proxy)
        samples = sample_polls(proxy, Processes(host), n_samples, POLLS_PER_SAMPLE * 2)
        assert_unchanged(proxy, first)
        host.stop_unit(UNIT)
        return samples


def sample_curl(host, proxy, url, n_polls):
    """The same for curl, which asks for the same object on one connection, once a second: what libcurl, TLS and the kernel
    take on this machine. Each request is another only in its fragment, which does not travel."""
    host.run(["systemd-run", "--quiet", "--unit=curl.service", "curl", "-s", "-o", "/dev/null", "--rate", "60/m",
              "-H", "If-None-Match: *", f"{url}#[1-{n_polls + 10}]"])
    try:
        wait_polls(proxy, 5)
        return sample_polls(proxy, Processes(host, "curl.service"), 1, n_polls)
    finally:
        host.stop_unit("curl.service")


def as_sent(request):
    """The bytes of a request that the proxy saw."""
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def sample_exchange(bench, host, proxy, request, n_samples):
    """The same for a program that sends this request, once a second on one connection, and reads the answer: the floor of
    what a poll can cost on this machine."""
    program, file = "/run/tls-exchange", "/run/tls-exchange.request"
    host.write(program, pathlib.Path(bench.program("tls-exchange")).read_bytes(), mode=0o755)
    host.write(file, as_sent(request))
    host.run(["systemd-run", "--quiet", "--unit=exchange.service", program, *map(str, proxy.server_address), file])
    try:
        wait_polls(proxy, 5)
        first = count_polls(proxy)
        samples = sample_polls(proxy, Processes(host, "exchange.service"), n_samples, POLLS_PER_SAMPLE)
        assert_unchanged(proxy, first)
        return samples
    finally:
        host.stop_unit("exchange.service")


def idle_rows(bench, n_polls):
    n_samples = max(N_SAMPLES_MIN, n_polls // POLLS_PER_SAMPLE)
    with bench.host_apart(bench.work / "idle") as host, bench.proxy() as proxy:
        bench.go_to("large")
        bench.configure(host, endpoint=proxy.endpoint, interval="1s")
        host.start_unit(UNIT)
        wait_current(host, "large")
        wait_idle(host, "large")
        wait_polls(proxy, N_POLLS_FORGET)

        processes = Processes(host)
        names = processes.by_name(Processes.thread_nsec)
        pss_kib = processes.by_name(Processes.pss_kib)
        first = count_polls(proxy)
        kept = sample_polls(proxy, processes, n_samples, POLLS_PER_SAMPLE)
        n_done = count_polls(proxy) - first
        each_usec = {name: (now - names[name]) / 1000 / n_done
                     for name, now in processes.by_name(Processes.thread_nsec).items()}
        assert_unchanged(proxy, first)
        proxy.fault(MANIFEST, CloseAfterAnswer(), method="GET")
        wait_polls(proxy, 1)
        anew = sample_polls(proxy, processes, 4, N_POLLS_RECONNECT // 4)
        request = proxy.seen(MANIFEST, "GET")[-1]
        host.stop_unit(UNIT)
        proxy.clear()
        exchange_usec = statistics.median(sample_exchange(bench, host, proxy, request, N_SAMPLES_MIN))
        url = bench.s3.client(endpoint=proxy.endpoint).generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": "deploy/web/channels/prod/manifest.json"}, ExpiresIn=PRESIGNED_SEC)
        curl = statistics.median(sample_curl(host, proxy, url, N_POLLS_CURL))
    together = sample_together(bench, n_samples)

    cpu_usec = statistics.median(kept)
    return [
        memory_row("idle: memory of all processes", pss_kib, IDLE_PSS_MAX_MB),
        Row(f"idle: CPU of an unchanged poll, {N_APPS_TOGETHER} together", f"{statistics.median(together):.0f} µs", "",
            verdict(round(statistics.median(together)), IDLE_CPU_MAX_USEC, f" µs (median of {len(together)})")),
        Row("idle: CPU of one alone, once a second", f"{cpu_usec:.0f} µs", parts(each_usec, "µs"),
            verdict(round(cpu_usec), IDLE_CPU_MAX_USEC, f" µs (median of {len(kept)} × {POLLS_PER_SAMPLE}; the floor takes"
                                                        f" {exchange_usec:.0f} µs)")),
        Row("idle: CPU of a bare TLS exchange, the floor", f"{exchange_usec:.0f} µs",
            f"{cpu_usec / exchange_usec:.2f} is ours to it"),
        Row("idle: CPU of one with a new TLS connection", f"{statistics.median(anew):.0f} µs",
            f"{statistics.median(anew) / cpu_usec:.1f} times"),
        Row("idle: CPU of curl for the same request", f"{curl:.0f} µs", f"{cpu_usec / curl:.2f} is ours to it"),
    ]


def measure_start(host, network):
    """CPU of the agent in its first seconds, with nothing to do but to poll."""
    host.stop_unit(UNIT)
    if network != "up":
        host.name_address("127.0.0.1" if network == "refused" else "192.0.2.1", "s3.test")
    try:
        host.start_unit(UNIT)
        time.sleep(START_SEC)
        return Processes(host).cpu_usec()
    finally:
        host.run(["sed", "-i", "/s3.test/d", "/etc/hosts"])
        host.name_address(sandbox.SERVER_ADDRESS, "s3.test")


def start_rows(bench, n_pairs):
    """With the default interval."""
    with bench.host(bench.work / "start") as host:
        bench.go_to("small")
        endpoint = bench.s3.tls_endpoint.replace(sandbox.SERVER_ADDRESS, "s3.test")
        host.name_address(sandbox.SERVER_ADDRESS, "s3.test")
        bench.configure(host, endpoint=endpoint, interval="15s")
        host.start_unit(UNIT)
        wait_idle(host, "small")
        taken = {network: [] for network in ("up", "refused", "no route")}
        for _ in range(n_pairs):
            for network, into in taken.items():
                into.append(measure_start(host, network))
        host.stop_unit(UNIT)
    up = statistics.median(taken["up"])
    rows = [Row(f"start: CPU of the first {START_SEC} s, idle", f"{up / 1000:.1f} ms", "1", f"median of {n_pairs}")]
    for network in ("refused", "no route"):
        ratio = statistics.median(taken[network]) / up
        rows.append(Row(f"start: the same, network {network}", f"{statistics.median(taken[network]) / 1000:.1f} ms",
                        f"{ratio:.2f}", verdict(round(ratio, 2), 1.0)))
    return rows


# -- by hand

# On the host, so that entering it is not counted: monotonic seconds before the command and after it.
TIMED = """
import os, sys, time
begun = time.monotonic()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(begun, time.monotonic(), file=sys.stderr)
sys.exit(code)
"""


def run_timed(host, *command):
    begun, ended = host.run(["python3", "-c", TIMED, *command]).stderr.split()[-2:]
    return float(begun), float(ended)


def measure_rollback(web, release):
    """Milliseconds from the start of `slipway rollback` until the link was switched and the unit's job was at work, and until
    the command said so. The unit leaves its active state when its job runs, and the job comes after the link."""
    host = web.host
    begun, ended = run_timed(host, "/usr/bin/slipway", "rollback", web.app, release)
    job = int(host.unit(web.unit, "ActiveExitTimestampMonotonic")["ActiveExitTimestampMonotonic"]) / 1e6
    assert slipway.current(host) == release and begun < job < ended, (begun, job, ended)
    return (job - begun) * 1000, (ended - begun) * 1000


def measure_stop(web):
    begun, ended = run_timed(web.host, "/usr/bin/systemctl", "stop", UNIT)
    web.host.start_unit(UNIT)
    return (ended - begun) * 1000


def hand_rows(bench, n_tries):
    with bench.host(bench.work / "hand") as host:
        web = toy.Toy(host, toy.local_store(host))
        web.release()
        toy.start([web])
        web.wait_live("r1")
        web.wait_live(web.release())

        def roll_back():
            values = [measure_rollback(web, {"r1": "r2", "r2": "r1"}[slipway.current(host)]) for _ in range(n_tries)]
            return [statistics.median(column) for column in zip(*values)]

        job, ended = roll_back()
        stops = [measure_stop(web) for _ in range(n_tries)]
        host.stop_unit(UNIT)
        job_alone, ended_alone = roll_back()
    return [
        Row("rollback: command to link and job", f"{job:.1f} ms", f"{ended:.1f} ms to the answer",
            verdict(round(job, 1), ROLLBACK_MAX_MSEC, f" ms (median of {n_tries})")),
        Row("rollback without slipwayd: the same", f"{job_alone:.1f} ms", f"{ended_alone:.1f} ms to the answer",
            verdict(round(job_alone, 1), ROLLBACK_MAX_MSEC, " ms")),
        Row("stop of an idle agent", f"{statistics.median(stops):.0f} ms", f"{max(stops):.0f} ms the longest",
            verdict(round(max(stops)), STOP_MAX_MSEC, " ms")),
    ]


# -- the whole

def about(bench):
    """What it ran on."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = re.search(r"MemTotal: +(\d+)", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    with bench.host(bench.work / "about") as host:
        libraries = host.run(["curl", "--version"]).stdout.splitlines()[0].split(") ")[1]
        systemd = host.run(["systemctl", "--version"]).stdout.splitlines()[0]
        ours = host.run(["slipway", "--version"]).stdout.strip()
        tar = host.run(["tar", "--version"]).stdout.splitlines()[0]
    wanted = [word for word in libraries.split() if word.startswith(("libcurl/", "OpenSSL/", "libzstd/"))]
    print(f"{ours}; {cpu.group(1) if cpu else 'unknown CPU'} × {os.cpu_count()}, {int(memory.group(1)) >> 20} GiB, "
          f"Linux {os.uname().release}; {' '.join(wanted)}, {systemd}, {tar}\n")


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--polls", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--only", choices=["idle", "start", "deploy", "fetch", "hand", "polite", "ssm", *releases.NAMES])
    parser.add_argument("--on", choices=["disk", "memory"], default="disk")
    return parser.parse_args()


def measure(bench, arguments):
    rows = [Row("what", "median", "ratio, or parts", "target")]
    if arguments.only in (None, "deploy"):
        rows += deploy_rows(bench, bench.disk / "deploy", "disk", arguments.pairs)
        memory = bench.work / "memory"
        memory.mkdir()
        sandbox.run("mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", str(memory))
        rows += deploy_rows(bench, memory, "memory", arguments.pairs)
    if arguments.only in (None, "idle"):
        rows += idle_rows(bench, arguments.polls)
    if arguments.only in (None, "start"):
        rows += start_rows(bench, max(1, arguments.pairs // 2))
    if arguments.only in (None, "fetch"):
        rows += fetch_rows(bench, arguments.pairs)
    if arguments.only in (None, "hand"):
        rows += hand_rows(bench, arguments.tries)
    if arguments.only in (None, "polite"):
        rows += polite.rows(bench, arguments.pairs)
    if arguments.only in (None, "ssm"):
        rows += ssm.rows(bench)
    if arguments.only in (None, *releases.NAMES):
        rows += releases.rows(bench, arguments.pairs, arguments.only)
    about(bench)
    print_table(rows)
    return 1 if report_missed(rows) else 0


def main():
    arguments = parse_arguments()
    work = pathlib.Path(os.environ["SLIPWAY_E2E_WORK"])
    install = pathlib.Path(os.environ["SLIPWAY_E2E_INSTALL"])
    s3 = s3_server.S3Server(pathlib.Path(os.environ["SLIPWAY_E2E_S3_ROOT"]), work / "s3")
    try:
        s3.start()
        s3.client().create_bucket(Bucket=BUCKET)
        publisher = slipway.Publisher(install, work / "publisher", f"s3://{BUCKET}/deploy", slipway.store_environment(s3))
        disk = make_disk(work, arguments.on)
        if arguments.only not in releases.NAMES:
            large = application.Releases(pathlib.Path(os.environ["SLIPWAY_E2E_APP_TREE"]), disk).first()
            publisher.release(large, "large", spec=SPEC)
        small = application.small_tree(work / "small", "0")
        publisher.release(small, "small", spec=SPEC)
        lower = host_module.make_layer(work, pathlib.Path(os.environ["SLIPWAY_E2E_HOST_ROOT"]), install)
        return measure(Bench(s3, publisher, lower, work, disk, small), arguments)
    finally:
        s3.stop()


if __name__ == "__main__":
    sys.exit(main())
