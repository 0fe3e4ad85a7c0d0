"""What the measurements of agent.py and ssm.py share: the table, a host whose agent follows a channel on S3, and what its processes
take."""

import contextlib
import dataclasses
import os
import pathlib
import re
import time

import fault_proxy
import host as host_module
import s3_server
import sandbox
import slipway
from waiting import wait_for

DEPLOY_LIMIT_SEC = 120
# libcurl closes connections that were idle for 118 s when it asks again (CURLOPT_MAXAGE_CONN): those that fetched the release
N_POLLS_FORGET = 130
LOOK_EVERY_SEC = 0.002
MISSED = "MISSED"
UNIT = "slipwayd.service"
DISK_BYTES = 24 << 30
MANIFEST = r"/channels/prod/manifest\.json"


@dataclasses.dataclass
class Row:
    """A line of the table."""

    what: str
    measured: str
    compared: str = ""
    verdict: str = ""


def print_table(rows):
    widths = [max(len(getattr(row, field.name)) for row in rows) for field in dataclasses.fields(Row)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(dataclasses.astuple(row), widths)).rstrip())


def verdict(value, limit, unit=""):
    return f"{'reached' if value <= limit else MISSED}: at most {limit}{unit}"


def report_missed(rows):
    """Says which targets were missed, and returns whether any was."""
    missed = [row.what for row in rows if row.verdict.startswith(MISSED)]
    if missed:
        print("\nMissed:", *missed, sep="\n  ")
    return bool(missed)


def parts(values, unit):
    return " + ".join(f"{name} {value:.{1 if unit == 'MB' else 0}f}" for name, value in sorted(values.items()))


def memory_row(what, pss_kib, limit_mb):
    pss_mb = {name: kib / 1024 for name, kib in pss_kib.items()}
    whole_mb = sum(pss_mb.values())
    return Row(f"{what} (PSS)", f"{whole_mb:.1f} MB", parts(pss_mb, "MB"), verdict(round(whole_mb, 1), limit_mb, " MB"))


def make_disk(work, on):
    """A new ext4 with a journal, as an instance has it, in a file on `on`, disk or memory; it goes with the sandbox. (Without a journal
    ext4 passes over inodes that were freed in the last minutes: who writes after something was removed pays for that.)"""
    place, disk = work / "image", work / "disk"
    for directory in (place, disk):
        directory.mkdir()
    if on == "memory":
        sandbox.run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place))
    image = place / "disk"
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    sandbox.run("mkfs.ext4", "-q", "-F", "-i", "16384", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    sandbox.run("mount", "-o", "loop", str(image), str(disk))
    return disk


@dataclasses.dataclass
class Bench:
    """What all measurements share."""

    s3: s3_server.S3Server
    publisher: slipway.Publisher
    lower: list
    work: pathlib.Path
    disk: pathlib.Path  # a file system of its own, see make_disk()
    small: pathlib.Path  # a tree of a few files

    @contextlib.contextmanager
    def host(self, directory):
        """A fresh host whose files are below this directory."""
        directory.mkdir(exist_ok=True)
        fleet = host_module.Fleet(directory, self.lower)
        try:
            yield fleet.boot(1)[0]
        finally:
            fleet.remove(fleet.hosts)

    @contextlib.contextmanager
    def host_apart(self, directory):
        """The same, with a CPU of its own, while another one receives what it sends. Between hosts on one machine the kernel does
        the receiver's part while it sends, and unless it accounts interrupts by themselves it takes it for the sender's work: on
        a network it is the other machine's."""
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[:1])  # which all processes of the host inherit
        try:
            with self.host(directory) as host:
                os.sched_setaffinity(0, cpus)
                self._receive_on(host, cpus[-1])
                yield host
        finally:
            os.sched_setaffinity(0, cpus)

    def _receive_on(self, host, cpu):
        devices = self.work / "sys"
        if not devices.exists():
            devices.mkdir()
            sandbox.run("mount", "-t", "sysfs", "sysfs", str(devices))
        sandbox.run("mount", "-o", "remount,rw", str(devices))  # the host's own, which shares it, is read-only
        (devices / f"class/net/{host.link}/queues/rx-0/rps_cpus").write_text(f"{1 << cpu:x}", encoding="ascii")

    @staticmethod
    def program(name):
        """One of the programs that are built beside this file."""
        return str(pathlib.Path(os.environ["SLIPWAY_BENCH_PROGRAMS"]) / name)

    def proxy(self):
        return fault_proxy.FaultProxy(sandbox.SERVER_ADDRESS, self.s3.address, tls=self.s3.tls_context())

    def go_to(self, release):
        """Makes one of the two releases the channel's newest deployment."""
        self.publisher.run("rollback", *self.publisher.channel_args(), "--key", self.publisher.key_path, release)

    def configure(self, host, *, endpoint=None, interval, environment=None, **members):
        slipway.configure(host, self.publisher.url, self.publisher.root_path.read_bytes(),
                          environment={**slipway.store_environment(self.s3, endpoint=endpoint), **(environment or {})},
                          poll={"interval": interval, "jitter": "0%"}, **members)


def wait_current(host, release):
    """Looks at the link from outside, so that the host has nothing to do for it; returns when it was seen."""
    link, deadline = host.work / "srv/web/current", time.monotonic() + DEPLOY_LIMIT_SEC
    while True:
        now = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link) == f"releases/{release}":
                return now
        if now > deadline:
            raise AssertionError(f"{release} did not go live on {host}:\n{host.journal(UNIT)}")
        time.sleep(LOOK_EVERY_SEC)


def wait_idle(host, release):
    def is_idle():
        state = slipway.status(host)["apps"][0]["state"]
        return state["phase"] == "idle" and state.get("current") == release
    wait_for(is_idle, DEPLOY_LIMIT_SEC, f"release {release} on {host}, idle")


class CloseAfterAnswer(fault_proxy.Fault):
    """Answers, then closes the connection: the next request needs a new one."""

    def after(self, handler, answer):
        handler.close_connection = True
        return answer


class Processes:
    """The processes of a unit, through its cgroup."""

    def __init__(self, host, unit=UNIT):
        (self._cgroup,) = pathlib.Path("/sys/fs/cgroup").glob(f"{host.name}/**/{unit}")

    def pids(self):
        return [int(pid) for pid in (self._cgroup / "cgroup.procs").read_text(encoding="ascii").split()]

    def cpu_usec(self):
        """All of them together, since the unit started, threads and children that ended included."""
        fields = dict(line.split() for line in (self._cgroup / "cpu.stat").read_text(encoding="ascii").splitlines())
        return int(fields["usage_usec"])

    def by_name(self, read):
        return {pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip(): read(pid) for pid in self.pids()}

    @staticmethod
    def pss_kib(pid):
        found = re.search(r"^Pss: +(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.M)
        return int(found.group(1))

    @staticmethod
    def thread_nsec(pid):
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


def count_polls(proxy):
    return len(proxy.seen(MANIFEST, "GET"))


def wait_polls(proxy, n_polls):
    """Waits for that many more polls, and for a moment in which the last one is over."""
    until = count_polls(proxy) + n_polls
    wait_for(lambda: count_polls(proxy) >= until, n_polls * 2 + 10, f"{n_polls} polls")
    time.sleep(0.3)
