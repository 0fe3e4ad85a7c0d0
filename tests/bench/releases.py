"""What a release costs, beside what one would run instead: the whole of it, one that changes little, and one that changes nothing;
rows of agent.py's table.

All of it is brought to one host, onto one file system, from one S3 server by TLS, in turn: what counts is ratios within a round.
The first round is not timed. It warms caches, counts bytes in a proxy before the store, and watches the agent's memory.
"""

import dataclasses
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

import boto3.s3.transfer
import inputs
import slipway
import zstandard
from common import (MISSED, UNIT, Processes, Row, parts, verdict, wait_current, wait_idle)
from waiting import wait_for

BUCKET = "bench"
PUBLIC = "public"  # anybody may read it: casync signs nothing
SPEC = {"activate": {}}  # measured is what ends at `current`, without a unit to restart; so it is for the others
LIMIT_SEC = 600
PRESIGNED_SEC = 6 * 3600
SAMPLE_EVERY_SEC = 0.02
AWS_HOME = "opt/aws"

FULL_TO_AWS_MAX, FULL_TO_CURL_MAX, FULL_TO_COPY_MAX = 0.5, 0.8, 1.3
UPGRADE_TO_AWS_MAX, UPGRADE_TO_OTHERS_MAX = 0.15, 1.0
FETCHED_MAX, INDEX_MAX, BINARY_FETCHED_MAX = 1.15, 0.05, 0.05
SAME_MAX_SEC, SAME_FILES = 0.3, 13_000
DISK_MAX = 1.1
PSS_MAX_MB, HUGE_PSS_MAX_MB = 48, 64
PACK_MIN = 0.8
ZSTD_LEVEL = 3  # the publisher's and the program's default

# What one would run in place of Slipway, on the host; /srv/plain is empty, /srv/source has both trees.
AWS, CURL, COPY = "aws s3 cp, sha256sum, tar, ln", "curl | tar --zstd -x", "cp -a"
AWS_SYNCED, CURL_SYNCED, COPY_SYNCED = f"{AWS}, sync -f", f"{CURL}, sync -f", f"{COPY}, sync -f"
RSYNC, CASYNC = "rsync, local, --link-dest", "casync extract --seed"
DOWNLOAD = f"""
    cd /srv/plain
    /{AWS_HOME}/bin/python -m awscli s3 cp --only-show-errors "$ARTIFACT_S3" artifact.tar.zst
    echo "$ARTIFACT_SHA256  artifact.tar.zst" | sha256sum --check --quiet
    mkdir tree
    tar -xf artifact.tar.zst -C tree
    ln -sfn tree current
    """
UNTAR = 'curl -sSf "$ARTIFACT_URL" | tar --zstd -x -C /srv/plain'
COMMANDS = {
    AWS: DOWNLOAD,
    AWS_SYNCED: f"{DOWNLOAD} sync -f /srv/plain",
    CURL: UNTAR,
    CURL_SYNCED: f"{UNTAR}; sync -f /srv/plain",
    COPY: "cp -a /srv/source/1 /srv/plain",
    COPY_SYNCED: "cp -a /srv/source/1 /srv/plain; sync -f /srv/plain",
    RSYNC: "rsync -a --link-dest=/srv/source/1 /srv/source/2/ /srv/plain/2/",
    CASYNC: 'casync extract --store="$CASYNC_URL/store.castr" --seed=/srv/source/1 "$CASYNC_URL/2.caidx" /srv/plain/2 2>/dev/null',
}
UPGRADES = (RSYNC, CASYNC)


@dataclasses.dataclass
class Input:
    """What is deployed. `targets`: whether it is what the targets are for; fetched_max: how much of its changed files, compressed, may
    travel."""

    name: str
    make: object
    targets: bool = False
    fetched_max: float | None = None
    rivals: tuple = tuple(COMMANDS)


def say(text):
    print(f"-- {text}", file=sys.stderr, flush=True)


def mb(n_bytes):
    return f"{n_bytes / 1e6:.1f} MB"


class PeakMemory(threading.Thread):
    """What the processes of the agent take together at most, looked at as often as SAMPLE_EVERY_SEC says."""

    def __init__(self, host):
        super().__init__()
        self._processes = Processes(host)
        self._ends = threading.Event()
        self.pss_kib = {}

    def run(self):
        while not self._ends.wait(SAMPLE_EVERY_SEC):
            now = {}
            try:
                for pid in self._processes.pids():
                    name = pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
                    now[name] = now.get(name, 0) + Processes.pss_kib(pid)
            except (FileNotFoundError, ProcessLookupError, AttributeError):
                continue  # one ended meanwhile
            if sum(now.values()) > sum(self.pss_kib.values()):
                self.pss_kib = now

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self.join()

    def row(self, what, limit_mb, only=None):
        whole_mb = (self.pss_kib.get(only, 0) if only else sum(self.pss_kib.values())) / 1024
        return Row(what, f"{whole_mb:.1f} MB", parts({name: kib / 1024 for name, kib in self.pss_kib.items()}, "MB"),
                   verdict(round(whole_mb, 1), limit_mb, " MB"))


class Comparison:
    """One input on one host."""

    def __init__(self, bench, host, given, directory):
        self.bench, self.host, self.given, self.directory = bench, host, given, directory
        self.ids = [f"{given.name}-{n}" for n in (1, 2, 3)]
        self.seconds = {}
        self.counted = {}

    def _key(self, release, name):
        return f"deploy/web/releases/{release}/{name}"

    def size(self, release, name):
        return self.bench.s3.client().head_object(Bucket=BUCKET, Key=self._key(release, name))["ContentLength"]

    # -- before

    def prepare(self):
        """Publishes both versions, and the second one under another name, and lays out what the others need."""
        first, second, again = self.ids
        for tree, release in (("1", first), ("2", second), ("2", again)):
            self.bench.publisher.release(self.directory / tree, release, spec=SPEC, timeout_sec=LIMIT_SEC)
        source = self.host.work / "srv/source"
        shutil.rmtree(source, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", "--", str(self.directory), str(source)], check=True)
        client = self.bench.s3.client(tls=True)
        self._environment = {
            **slipway.store_environment(self.bench.s3),
            "AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
            "ARTIFACT_S3": f"s3://{BUCKET}/{self._key(first, 'artifact.tar.zst')}",
            "ARTIFACT_SHA256": self._sha256(client, first),
            "ARTIFACT_URL": client.generate_presigned_url(
                "get_object", Params={"Bucket": BUCKET, "Key": self._key(first, "artifact.tar.zst")}, ExpiresIn=PRESIGNED_SEC),
            "CASYNC_URL": f"{self.bench.s3.tls_endpoint}/{PUBLIC}/{self.given.name}",
        }
        if CASYNC in self.given.rivals:
            self._prepare_casync(client)

    def _sha256(self, client, release):
        content = client.get_object(Bucket=BUCKET, Key=self._key(release, "artifact.tar.zst"))["Body"].read()
        return subprocess.run(["sha256sum"], input=content, stdout=subprocess.PIPE, check=True).stdout.split()[0].decode()

    def _prepare_casync(self, client):
        self.host.run(["sh", "-e", "-c", "rm -rf /srv/casync; mkdir /srv/casync; cd /srv/casync; for n in 1 2; do "
                       "casync make --store=store.castr $n.caidx /srv/source/$n >/dev/null; done"], timeout_sec=LIMIT_SEC)
        made = self.host.work / "srv/casync"
        with boto3.s3.transfer.S3Transfer(client) as transfer:
            for path in inputs.files(made):
                transfer.upload_file(str(path), PUBLIC, f"{self.given.name}/{path.relative_to(made)}",
                                     extra_args={"ACL": "public-read"})
        shutil.rmtree(made)

    # -- rounds

    def _timed(self, label, function):
        seconds = function()
        say(f"{self.given.name}: {label}: {seconds:.2f} s")
        return label, seconds

    def _deploy(self, release):
        self.bench.go_to(release)
        self.host.run(["sync"], timeout_sec=LIMIT_SEC)
        started = time.monotonic()
        self.host.run(["slipway", "poll", "web"])
        took_sec = wait_current(self.host, release) - started
        wait_idle(self.host, release)
        return took_sec

    def start_anew(self):
        """The agent, on a host that has nothing but a small release."""
        self.host.stop_unit(UNIT)
        self.host.run(["sh", "-c", "rm -rf /srv/web /var/lib/slipway/* /var/cache/slipway/*"], timeout_sec=LIMIT_SEC)
        self.bench.go_to("small")
        self.host.start_unit(UNIT)
        wait_idle(self.host, "small")

    def _run(self, command):
        self.host.run(["sh", "-c", "rm -rf /srv/plain && mkdir /srv/plain && sync"], timeout_sec=LIMIT_SEC)
        started = time.monotonic()
        self.host.run(["bash", "-e", "-o", "pipefail", "-c", command], timeout_sec=LIMIT_SEC, env=self._environment)
        return time.monotonic() - started

    def round(self):
        self.start_anew()
        taken = [self._timed(label, lambda release=release: self._deploy(release))
                 for label, release in zip(("full", "upgrade", "same"), self.ids)]
        taken += [self._timed(label, lambda label=label: self._run(COMMANDS[label])) for label in self.given.rivals]
        self.host.run(["rm", "-rf", "/srv/plain"], timeout_sec=LIMIT_SEC)
        for label, seconds in taken:
            self.seconds.setdefault(label, []).append(seconds)

    def _disk_bytes(self):
        """What the releases take, and their directories, which can't be shared, of that."""
        du = self.host.run(["du", "-s", "--block-size=1", "/srv/web/releases"]).stdout.split()[0]
        directories = self.host.run(["find", "/srv/web/releases", "-type", "d", "-printf", "%b\n"]).stdout.split()
        return int(du), sum(map(int, directories)) * 512

    def count(self, proxy):
        """A round that is not timed: what is fetched, what it takes on the disk and in memory."""
        self.start_anew()
        disk = []
        with PeakMemory(self.host) as memory:
            for release in self.ids:
                self._deploy(release)
                disk.append(self._disk_bytes())
                self.counted[release] = {
                    name: sum(r.n_body_bytes for r in proxy.seen(rf"/releases/{release}/{name}", "GET"))
                    for name in ("artifact", "index")}
        self.disk_bytes, self.directory_bytes = (after - before for before, after in zip(disk[0], disk[1]))
        self.memory = memory
        for label in self.given.rivals:
            self._timed(f"not counted: {label}", lambda label=label: self._run(COMMANDS[label]))

    # -- rows

    def _row(self, what, measured, compared="", target=""):
        return Row(f"{self.given.name}: {what}", measured, compared, target if self.given.targets else "")

    def _own_row(self, label, what, target=""):
        return self._row(what, f"{statistics.median(self.seconds[label]):.2f} s", "1", target)

    def _other_row(self, label, beside, limit=None):
        seconds = self.seconds[label]
        ratio = statistics.median(ours / theirs for ours, theirs in zip(self.seconds[beside], seconds))
        return self._row(f"{beside}, beside {label}", f"{statistics.median(seconds):.2f} s", f"{ratio:.2f}",
                         verdict(round(ratio, 2), limit) if limit else "")

    def _same_for_files(self, same_sec):
        if not self.given.targets:
            return ()
        scaled_sec = round(same_sec * SAME_FILES / len(inputs.files(self.directory / "1")), 2)
        return f"{scaled_sec} s for {SAME_FILES} files", verdict(scaled_sec, SAME_MAX_SEC, " s")

    def time_rows(self):
        limits = {AWS: FULL_TO_AWS_MAX, CURL: FULL_TO_CURL_MAX, COPY_SYNCED: FULL_TO_COPY_MAX}
        same_sec = statistics.median(self.seconds["same"])
        return [
            self._own_row("full", "full release, to current, synced"),
            *(self._other_row(label, "full", limits.get(label)) for label in self.given.rivals if label not in UPGRADES),
            self._own_row("upgrade", "upgrade, to current, synced"),
            self._other_row(AWS, "upgrade", UPGRADE_TO_AWS_MAX),
            *(self._other_row(label, "upgrade", UPGRADE_TO_OTHERS_MAX) for label in self.given.rivals if label in UPGRADES),
            self._row("nothing changed but the id", f"{same_sec:.2f} s", *self._same_for_files(same_sec)),
        ]

    def _bytes_row(self, what, n_bytes, of, of_what, limit=None):
        """A limit here holds for this input, whatever `targets` is."""
        ratio = n_bytes / of if of else 0.0
        return Row(f"{self.given.name}: {what}", mb(n_bytes), f"{ratio:.3f} of {of_what}, {mb(of)}",
                   verdict(round(ratio, 3), limit) if limit else "")

    def byte_rows(self):
        _, second, again = self.ids
        changed = inputs.changed(self.directory)
        occupied = sum(path.stat().st_blocks * 512 for path in changed)
        artifact, index = self.size(second, "artifact.tar.zst"), self.size(second, "index")
        n_again = self.counted[again]["artifact"]
        return [
            self._bytes_row("upgrade: fetched of the artifact", self.counted[second]["artifact"], self._compressed_bytes(changed),
                            f"{len(changed)} changed files, each compressed", self.given.fetched_max),
            self._bytes_row("the same", self.counted[second]["artifact"], self._together_bytes(changed), "these as one tar, compressed"),
            self._bytes_row("upgrade: fetched of the index", self.counted[second]["index"], artifact, "the artifact",
                            self.given.targets and INDEX_MAX),
            self._bytes_row("the whole index", index, artifact, "the artifact"),
            self._row("nothing changed but the id: fetched of the artifact", f"{n_again} bytes", "", verdict(n_again, 0, " bytes")),
            self._bytes_row("upgrade: disk, but for its directories", self.disk_bytes - self.directory_bytes, occupied,
                            "its changed files", self.given.targets and DISK_MAX),
            self._bytes_row("upgrade: disk, its directories", self.directory_bytes, occupied, "its changed files"),
            self.memory.row(f"{self.given.name}: peak memory of all processes (PSS)", PSS_MAX_MB),
        ]

    @staticmethod
    def _compressed_bytes(paths):
        return sum(len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(path.read_bytes())) for path in paths)

    def _together_bytes(self, paths):
        names = "".join(f"{path.relative_to(self.directory / '2')}\0" for path in paths)
        command = f"tar -C '{self.directory}/2' --null --files-from=- -c | zstd -q | wc -c"
        return int(subprocess.run(["bash", "-o", "pipefail", "-c", command], input=names, text=True, stdout=subprocess.PIPE,
                                  check=True).stdout)


def with_input(bench, given, compare):
    """Makes the input and gives it to compare() with a host that has the others' programs."""
    directory, place = bench.disk / f"input-{given.name}", bench.disk / given.name
    directory.mkdir()
    say(f"{given.name}: making the input")
    try:
        given.make(directory)
        with bench.host(place) as host:
            return compare(host, directory)
    finally:
        shutil.rmtree(directory)


def compare_rows(bench, given, n_rounds):
    def compare(host, directory):
        inputs.set_times(directory)
        if host.run(["sh", "-c", "command -v casync"], check=False).rc != 0:
            given.rivals = tuple(label for label in given.rivals if label != CASYNC)
        comparison = Comparison(bench, host, given, directory)
        say(f"{given.name}: publishing")
        comparison.prepare()
        with bench.proxy() as proxy:
            bench.configure(host, endpoint=proxy.endpoint, interval="1h")
            comparison.count(proxy)
            host.stop_unit(UNIT)
        bench.configure(host, interval="1h")
        for _ in range(n_rounds):
            comparison.round()
        n_files = len(inputs.files(directory / "1"))
        rows = comparison.time_rows() + comparison.byte_rows()
        rows[0].verdict = f"{n_files} files, {mb(comparison.size(comparison.ids[0], 'artifact.tar.zst'))}"
        return rows
    return with_input(bench, given, compare)


# -- the publisher

def pack_rows(bench, given, n_rounds):
    """Publishing to a store that is a directory, as it comes out of it, beside tar and zstd of the same tree."""
    directory = bench.disk / "input-pack"
    directory.mkdir()
    given.make(directory)
    ours, theirs = [], []
    for n in range(n_rounds + 1):
        store, output = bench.disk / "pack-store", bench.disk / "pack.tar.zst"
        store.mkdir()
        os.sync()
        began = time.monotonic()
        bench.publisher.run("release", "--store", f"file://{store}", "--app", "pack", "--channel", "prod", "--key",
                            bench.publisher.key_path, "--id", f"pack-{n}", directory / "1")
        ours.append(time.monotonic() - began)
        began = time.monotonic()
        subprocess.run(["bash", "-o", "pipefail", "-c", f"tar -C '{directory}/1' -c . | zstd -T0 -q -o '{output}'"], check=True)
        theirs.append(time.monotonic() - began)
        output.unlink()
        shutil.rmtree(store)
    n_bytes = sum(path.stat().st_size for path in inputs.files(directory / "1"))
    shutil.rmtree(directory)
    ratio = statistics.median(b / a for a, b in zip(ours[1:], theirs[1:]))
    return [
        Row(f"publisher: release of {given.name}", f"{n_bytes / statistics.median(ours[1:]) / 1e6:.0f} MB/s", "1"),
        Row("publisher: tar | zstd -T0", f"{n_bytes / statistics.median(theirs[1:]) / 1e6:.0f} MB/s", f"{ratio:.2f}",
            f"{'reached' if ratio >= PACK_MIN else MISSED}: at least {PACK_MIN}"),
    ]


# -- an artifact that is larger than memory has to be

def huge_rows(bench):
    given = Input("huge", inputs.huge)

    def deploy(host, directory):
        store = host.work / "srv/store"
        store.mkdir()
        bench.publisher.run("release", "--store", f"file://{store}", "--app", "web", "--channel", "prod", "--key",
                            bench.publisher.key_path, "--id", "huge", directory / "1", timeout_sec=LIMIT_SEC)
        slipway.configure(host, "file:///srv/store", bench.publisher.root_path.read_bytes())
        host.start_unit(UNIT)
        with PeakMemory(host) as memory:
            wait_for(lambda: (host.work / "srv/web/current").is_symlink(), LIMIT_SEC, f"the huge release on {host}")
        return [memory.row(f"huge: peak memory (PSS), of slipway-unpack, {inputs.HUGE_BYTES >> 30} GiB", HUGE_PSS_MAX_MB,
                           only="slipway-unpack")]
    return with_input(bench, given, deploy)


# -- the whole

def make_tools(disk):
    """A layer for hosts with the AWS CLI of the tests' Python environment."""
    layer = disk / "tools-layer"
    (layer / AWS_HOME).parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", "--reflink=auto", "--", sys.prefix, str(layer / AWS_HOME)], check=True)
    return layer


def the_inputs():
    packages, packages_next = (pathlib.Path(os.environ[f"SLIPWAY_E2E_APP_TREE{suffix}"]) for suffix in ("", "_NEXT"))
    whole = (AWS, AWS_SYNCED, CURL, CURL_SYNCED, COPY, COPY_SYNCED)
    made = [Input("node", lambda directory: inputs.node(directory, packages, packages_next), targets=True,
                  fetched_max=FETCHED_MAX)]
    if "SLIPWAY_BENCH_JVM_TREES" in os.environ:
        made.append(Input("jvm", lambda directory: inputs.jvm(directory, os.environ["SLIPWAY_BENCH_JVM_TREES"])))
    return [*made, Input("binary", inputs.binary, fetched_max=BINARY_FETCHED_MAX),
            Input("tiny", lambda directory: inputs.tiny(directory, packages), rivals=(*whole, RSYNC))]


NAMES = ("node", "jvm", "binary", "tiny", "pack", "huge")


def rows(bench, n_rounds, only=None):
    """Those of one input, or of all but the huge one."""
    bench.lower.append(make_tools(bench.disk))
    bench.s3.client().create_bucket(Bucket=PUBLIC)
    made = []
    for given in the_inputs():
        if only in (None, given.name):
            made += compare_rows(bench, given, n_rounds)
        if given.name == "node" and only in (None, "pack"):
            made += pack_rows(bench, given, n_rounds)
    if only == "huge":
        made += huge_rows(bench)
    return made
