"""A server that means harm costs a host little: memory and CPU of all the agent's processes, and lines of its journal, through a
minute of each of its tricks, at the default poll interval, and half a minute at the shortest one. Several hosts share them out.
"""

import base64
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import re
import time

import pytest

import conftest
import fault_proxy as faults
import formats
import hostile
import sandbox
import slipway
import toy
from waiting import wait_for

MANIFEST, BRAKE, ARTIFACT, ANY = r"/prod/manifest\.json", r"/halt\.json", r"/artifact\.tar\.zst", ""
LOOK_EVERY_SEC = 1
N_HOSTS = 8
SAID_SEC = 90
MEMORY_MAX_MB = 16
# by the poll interval; CPU is a share of one core
MEASURED_SEC = {"15s": 60, "1s": 30}
CPU_MAX = {"15s": 0.01, "1s": 0.02}
LINES_MAX = {"15s": 40, "1s": 80}
UNIT = "slipwayd.service"


@dataclasses.dataclass
class Trick:
    """What happens to which requests (a Behaviour: to all connections), and what a status says of it then. With `pending` there
    is a new release, which can't be had."""

    fault: object
    pattern: str = MANIFEST
    says: str = r"can't (?:ask the store|read)"
    pending: bool = False
    memory_max_mb: int = MEMORY_MAX_MB


def manifests(web):
    published = json.loads(web.store.get(formats.manifest_path("web", "prod")))
    return hostile.new_manifests(json.loads(base64.b64decode(published["payload"])), web.key)


TRICKS = {
    "endless body": Trick(lambda w: hostile.endless_body(), ANY, r"sent more than the limit of 262144 bytes"),
    "endless body of an error": Trick(lambda w: hostile.endless_body("503 Busy"), ANY, r"does not end its answer"),
    "endless headers": Trick(lambda w: hostile.endless_headers(), ANY, r"headers that are too long"),
    "endless header": Trick(lambda w: hostile.endless_header(), ANY),
    "interim answers without end": Trick(lambda w: hostile.endless_interim_answers(), ANY, r"come to an end with its headers"),
    "head of a chunk without end": Trick(lambda w: hostile.endless_chunk_head(), ANY, r"more around the chunks of its answer than in"),
    "huge Content-Length": Trick(lambda w: hostile.huge_promise(), ANY, r"sent more than the limit|Maximum file size"),
    "1 MB of headers": Trick(lambda w: hostile.many_headers(), ANY),
    "a byte a second": Trick(lambda w: hostile.drip(), ANY),
    "redirects in a circle": Trick(lambda w: hostile.RedirectInACircle(), ANY),
    "gzip bomb": Trick(lambda w: hostile.gzip_bomb(), ANY, r"envelope is broken"),
    "garbage in chunks": Trick(lambda w: hostile.garbage_in_chunks(), ANY, r"chunks that are none"),
    "no HTTP": Trick(lambda w: hostile.no_http(), ANY),
    "hangs up": Trick(lambda w: hostile.hang_up(), ANY),
    "busy, come back at once": Trick(lambda w: faults.Answer(503, "SlowDown", {"Retry-After": "0"}), ANY),
    "always new manifests, badly signed": Trick(manifests, says=r"can't be trusted"),
    "always new garbage": Trick(lambda w: hostile.new_garbage(), says=r"envelope is broken"),
    "artifact that never is the one": Trick(lambda w: faults.FlipBit(40), ARTIFACT, r"not the one that was signed", True,
                                            MEMORY_MAX_MB + 8),  # slipway-unpack is there as well
    "brake that flaps": Trick(lambda w: hostile.flapping_brake(), BRAKE, r"halted", True),
    **{f"connection: {name}": Trick(behaviour) for name, behaviour in hostile.MUTE.items()},
}


@dataclasses.dataclass
class Outcome:
    """What a trick came to: by the poll interval (share of a core, KiB, lines in the journal, requests met meanwhile), then the status while
    it lasted, whether what runs was touched, and what went wrong when the server was well again."""

    measured: dict
    said: str
    touched: bool
    failed: str | None


class Victim:
    """A host whose agent follows a channel, and is tricked."""

    def __init__(self, host, s3, store, proxy, servers):
        self.host, self.proxy = host, proxy
        self.web = toy.Toy(host, store)
        self._environment = functools.partial(slipway.store_environment, s3)
        self._servers = servers
        self.web.release()
        toy.configure([self.web], url=store.url, environment=self._environment(endpoint=proxy.endpoint))
        self._follow("1s", proxy.endpoint)
        self.web.assert_whole("r1")

    def _follow(self, interval, endpoint):
        """Starts the agent anew."""
        toy.configure([self.web], url=self.web.store.url, poll={"interval": interval, "jitter": "0%"}, report=True,
                      environment=self._environment(endpoint=endpoint))
        self.host.run(["systemctl", "restart", UNIT])

    def suffer(self, trick):
        """One trick, until the server is well again; returns the Outcome."""
        before = self._running()
        mute = trick.fault if isinstance(trick.fault, hostile.Behaviour) else None
        mute = self._servers.enter_context(hostile.Mute(sandbox.SERVER_ADDRESS, mute)) if mute else None
        rule = None if mute else self.proxy.fault(trick.pattern, trick.fault(self.web))
        if trick.pending:
            self.web.release()
        measured = {}
        for interval in MEASURED_SEC:
            self._follow(interval, (mute or self.proxy).endpoint)
            measured[interval] = self._measure(interval, lambda: mute.n_connections if mute else len(rule.hits))
        said, touched = self._said(trick.says), self._running() != before
        self.proxy.clear()
        return Outcome(measured, said, touched, self._recover())

    def _running(self):
        return slipway.current(self.host), self.host.unit(self.web.unit, "MainPID", "NRestarts", "ActiveState")

    def _measure(self, interval, n_met):
        before = n_met()
        wait_for(lambda: n_met() > before, 60, "the trick to be met")
        first = n_met()
        cursor, cgroup = self.host.journal_cursor(), Cgroup(self.host)
        began, cpu_usec, peak_kib = time.monotonic(), cgroup.cpu_usec(), 0
        while time.monotonic() - began < MEASURED_SEC[interval]:
            peak_kib = max(peak_kib, cgroup.memory_kib())
            time.sleep(LOOK_EVERY_SEC)
        share = (cgroup.cpu_usec() - cpu_usec) / 1e6 / (time.monotonic() - began)
        lines = self.host.run(["journalctl", "--quiet", "--output=cat", "-u", UNIT, f"--after-cursor={cursor}"]).stdout
        return share, peak_kib, len(lines.splitlines()), n_met() - first

    def _said(self, pattern):
        """What the status says once it matches, which may take all tries of a poll, or in the end."""
        def text():
            return self.web.status()["poll"].get("text") or ""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: re.search(pattern, text()), SAID_SEC, f"status to say {pattern!r}")
        return text()

    def _recover(self):
        """What is pending goes live, and another release, and nothing is left."""
        self._follow("1s", self.proxy.endpoint)
        try:
            self.web.assert_whole(f"r{self.web.n_releases}")
            self.web.assert_whole(self.web.release())
        except AssertionError as error:
            return str(error)
        return None


class Cgroup:
    """What the agent's processes take together."""

    def __init__(self, host):
        self._path = host.cgroup / "system.slice" / UNIT
        if not self._path.exists():
            (self._path,) = host.cgroup.glob(f"**/{UNIT}")

    def cpu_usec(self):
        text = (self._path / "cpu.stat").read_text(encoding="ascii")
        return int(dict(line.split() for line in text.splitlines())["usage_usec"])

    def memory_kib(self):
        """Nearly the PSS that they would have if nobody else on this machine ran the same programs, as on a host of its own: what
        is mapped of a file counts once."""
        alone_kib, files = 0, {}
        for pid in (self._path / "cgroup.procs").read_text(encoding="ascii").split():
            # a child may end meanwhile
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
                    own_kib, own_files = read_smaps(file.read())
                alone_kib += own_kib
                for name, kib in own_files.items():
                    files[name] = max(files.get(name, 0), kib)
        return alone_kib + sum(files.values())


def read_smaps(text):
    """(KiB of what is no file's, or was changed; KiB of the rest by mapping) of a process."""
    alone_kib, files, name = 0, {}, None
    for line in text.splitlines():
        mapping = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ (\S+) \S+ (\d+) *(.*)", line)
        if mapping:
            name = None if mapping.group(2) == "0" else (mapping.group(3), mapping.group(1))
        elif line.startswith("Anonymous:"):
            alone_kib += int(line.split()[1])
            if name is not None:
                files[name] = files.get(name, 0) - int(line.split()[1])
        elif line.startswith("Rss:") and name is not None:
            files[name] = files.get(name, 0) + int(line.split()[1])
    return alone_kib, files


@pytest.fixture(scope="module")
def outcomes(make_module_hosts, s3, pytestconfig):
    with contextlib.ExitStack() as stack:
        def suffer(host, names):
            store = formats.S3Store(s3.client(), stack.enter_context(conftest.fresh_bucket(s3)))
            proxy = stack.enter_context(faults.FaultProxy(sandbox.SERVER_ADDRESS, s3.address, tls=s3.tls_context()))
            victim = Victim(host, s3, store, proxy, stack)
            return {name: victim.suffer(TRICKS[name]) for name in names}

        hosts, names = make_module_hosts(N_HOSTS), list(TRICKS)
        with concurrent.futures.ThreadPoolExecutor(N_HOSTS) as pool:
            parts = [pool.submit(suffer, host, names[n::N_HOSTS]) for n, host in enumerate(hosts)]
            outcomes = {name: outcome for part in parts for name, outcome in part.result().items()}
    pytestconfig.stash[conftest.SUMMARY] += table(outcomes)
    return outcomes


def table(outcomes):
    head = "".join(f"{f'CPU, polls every {i}':>22}{'memory':>11}{'lines':>7}{'met':>6}" for i in MEASURED_SEC)
    rows = [f"{name:46}" + "".join(f"{share:>22.2%}{kib / 1024:>8.1f} MB{n_lines:>7}{n_met:>6}"
                                   for share, kib, n_lines, n_met in outcomes[name].measured.values()) for name in TRICKS]
    return [f"{'a server that means harm':46}{head}", *rows]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TRICKS)
def test_trick(outcomes, name):
    """It costs little, is said while it lasts, what runs is left alone, and nothing of it stays."""
    outcome = outcomes[name]
    for interval, (share, peak_kib, n_lines, n_met) in outcome.measured.items():
        assert n_met > 0, f"not met again while it was measured, polled every {interval}: that it costs little would say nothing"
        assert share <= CPU_MAX[interval], f"{share:.1%} of a core, polled every {interval}"
        assert peak_kib <= TRICKS[name].memory_max_mb << 10, f"{peak_kib} KiB, polled every {interval}"
        assert n_lines <= LINES_MAX[interval], f"{n_lines} lines in the journal, polled every {interval}"
    assert re.search(TRICKS[name].says, outcome.said), outcome.said
    assert not outcome.touched and outcome.failed is None, outcome.failed
