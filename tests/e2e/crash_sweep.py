"""Stops the agent at one crash point after the other (see tests/crash/crash-point.h), starts it again, and judges what it makes
of it. Each point is judged for each way to go down:

- killed: every process of the agent ends at once. The host goes on.
- power: the same, and the host reboots; what was not synced is gone (disk_model).
- names: the same, but names got to the disk before what they name.
"""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import mmap
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import disk_model
import formats
import host as host_module
import sandbox
import toy
from disk_model import Tree

PROGRAMS = ["slipwayd", "slipway-fetch", "slipway-unpack", "slipway"]
PROGRAM_DIR = "/usr/lib/slipway-crash"
CRASH_FILE = "/run/slipway.crash-points"
CRASH_FILE_BYTES = 16 << 20
LOSE_FILE_SYNCS = 1

# what the agent writes: one file system each, as on the most careful of hosts
DIRECTORIES = ["/srv/web", "/var/lib/slipway", "/var/cache/slipway"]
DISK_BYTES = 32 << 20
BOOT_ID_BYTES = 16
RUNTIME_DIR = "/run/slipway"
NOTIFY_SOCKET = "/run/sweep.notify"
WAYS = ["killed", "power", "names"]

RUN_MAX_SEC = 30
QUIET_SEC = 0.3
STEP_SEC = 0.002
TRIES = 5

# of every kind of entry
ENTRY_TIME_NSEC = formats.Entry("").mtime * 10 ** 9
MORE = [formats.Entry("d", "d"), formats.Entry("d/empty"), formats.Entry("link", "l", link="d/empty")]

# the last two come with the release that is deployed
SHARED = [{"path": "var/data", "create": "directory", "user": "nobody", "mode": "0750"},
          {"path": "var/log", "create": "directory"}, {"path": "local.env", "create": "file", "mode": "0600"}]

# each says that it ran
TRACE = "/run/sweep.hooks"
HOOKS = {kind: [{"command": ["/bin/sh", "-c", f"echo {kind} $SLIPWAY_RELEASE >>{TRACE}"], "user": "root"}]
         for kind in ("pre", "post", "revert")}

# what the application says: see make_control()
CONTROL = "/srv/web/control"
CONFIRMATION = "control/confirm"
KEPT_ROOT = "trust-root"

# besides what Toy writes: started as often as the sweep likes
UNIT_MORE = "[Unit]\nStartLimitIntervalSec=0\n"

# a unit that comes with the release that is deployed
MORE_UNIT = "web-more.service"
MORE_FILES = [formats.Entry("systemd", "d"),
              formats.Entry(f"systemd/{MORE_UNIT}", content=f"{UNIT_MORE}[Service]\nExecStart=sleep infinity\n".encode())]
BRINGS = {"unit_files": [f"systemd/{MORE_UNIT}"],
          "units": [{"name": unit, "action": "restart"} for unit in ("web.service", MORE_UNIT)]}


class Violation(Exception):
    """What must not be after a crash."""


def require(condition, text):
    if not condition:
        raise Violation(text)


class CrashFile:
    """The file that the agent's processes share with us."""

    def __init__(self, path):
        self._path = path
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), 0o666)
            file.truncate(CRASH_FILE_BYTES)
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), CRASH_FILE_BYTES)
        self.boot_id = uuid.uuid4().bytes

    def close(self):
        self._map.close()
        os.unlink(self._path)

    def arm(self, point, flags=0):
        """From here on points are counted from 1, and the agent stops at `point` (0: nowhere)."""
        n_used = disk_model.HEADER.size + self._header()[2]
        self._map[:n_used] = bytes(n_used)
        disk_model.HEADER.pack_into(self._map, 0, 0, point, 0, 0, 0, flags, 1, self.boot_id, bytes(8))

    def _header(self):
        return disk_model.HEADER.unpack_from(self._map)

    @property
    def n_points(self):
        return self._header()[0]

    @property
    def stopped(self):
        """The agent stands at the point, and what was before it is done."""
        header = self._header()
        return header[4] != 0 and header[3] == 0

    def records(self):
        start = disk_model.HEADER.size
        return disk_model.read_log(self._map[start:start + self._header()[2]])


@dataclasses.dataclass(frozen=True)
class End:
    """What must have become of the app in the end."""

    live: str
    releases: frozenset
    failed: str = None
    pinned: str = None
    staged: str = None
    hooks: frozenset = frozenset()  # that must have run


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Something that the agent does, from a beginning that is made once on each host."""

    name: str
    releases: tuple           # scripts of those that are installed before, in this order
    act: object               # act(station): the agent does it, until its end or the point that is armed
    end: End
    script: list = None       # of a release that is published then
    health: dict = dataclasses.field(default_factory=dict)  # more about that one
    config: dict = dataclasses.field(default_factory=dict)  # of the application, from then on
    control: bool = False     # the application has its directory control/
    before: object = None     # before(station): what the agent does then, undisturbed
    again: bool = False       # what was asked for may be lost with the agent that was asked, and is asked for once more
    rotates: bool = False     # the release that is published then is signed by a key that only the next trust root has
    brings: bool = False      # the release that is published then brings a unit
    same: bool = False        # it has the content of the first one
    cut_off: tuple = None     # (act, call, n): the beginning is that of a run of act that ended before this bus call, the n-th


@dataclasses.dataclass
class Verdict:
    """What became of one point."""

    point: int
    stopped_at: str = None    # where; None: the run ended before
    n_points: int = 0         # counted by the run
    violations: list = dataclasses.field(default_factory=list)


class Station:
    """A host on which the agent goes down and comes up."""

    def __init__(self, host, programs):
        self.host = host
        self._group = pathlib.Path("/sys/fs/cgroup") / f"{host.name}-agent"
        self._group.mkdir()
        host.run(["mkdir", PROGRAM_DIR])
        for name in PROGRAMS:
            host.write(f"{PROGRAM_DIR}/{name}", (programs / name).read_bytes(), mode=0o755)
        for directory in DIRECTORIES:
            host.mount_small(directory, DISK_BYTES)
        host.write("/etc/systemd/system/web.service.d/often.conf", UNIT_MORE)
        self._unit_group = None
        self._notify_path = self.path(NOTIFY_SOCKET)
        self._children = []
        self.crash = CrashFile(self.path(CRASH_FILE))

    def close(self):
        self.end_agent()
        self.crash.close()
        self._group.rmdir()

    def path(self, path):
        return self.host.seen_from_here(path)

    # -- the agent

    def popen(self, args, *, in_group=True):
        """Starts a program on the host; one of the agent's goes into the group that is killed at once."""
        output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        # no preexec_fn, which would make a copy of this whole process first
        enter = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', self._group / "cgroup.procs"] if in_group else []
        child = subprocess.Popen([*enter, *self.host.command(args)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 env={"PATH": host_module.PATH, "LANG": "C.UTF-8", "NOTIFY_SOCKET": NOTIFY_SOCKET})
        self._children.append((child, output))
        return child

    def output_of(self, child):
        """What a program said that has ended."""
        output = next(output for other, output in self._children if other is child)
        output.seek(0)
        return output.read()

    def end_agent(self):
        """All of it ends at the same moment; what else was started ends by itself then."""
        (self._group / "cgroup.kill").write_text("1", encoding="ascii")
        sandbox.wait_cgroup_empty(self._group)
        for child, output in self._children:
            child.wait(RUN_MAX_SEC)
            output.close()
        self._children = []

    def wait(self, condition, what):
        """Waits for something that the agent does; true, or false if it stopped at its point before."""
        deadline = time.monotonic() + RUN_MAX_SEC
        while True:
            if self.crash.stopped:
                return False
            if condition():
                return True
            if time.monotonic() > deadline:
                raise Violation(f"waited {RUN_MAX_SEC} s for {what}")
            time.sleep(STEP_SEC)

    def run_to_end(self, *args):
        """A program of the agent that ends by itself; None: it stopped at its point."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.end_agent)
            child = self.popen([f"{PROGRAM_DIR}/{args[0]}", *args[1:]])
            if not self.wait(lambda: child.poll() is not None, f"{args} to end"):
                return None
            return host_module.Result(list(args), child.returncode, self.output_of(child), "")

    def make_control(self):
        """For what the application says to the agent (agent/control.h)."""
        self.host.run(["install", "-d", "-m", "0700", "-o", "daemon", CONTROL])
        self.host.run(["touch", f"{CONTROL}/update.lock"])

    def hold_off(self):
        """An open file that holds updates off until it is closed, as the application does by its lock."""
        file = open(self.path(f"{CONTROL}/update.lock"), "rb")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def run_service(self, method, *signature_and_values, meanwhile=lambda: None):
        """slipwayd as a service, told by a method of the app's object what to do, until all of that is done. meanwhile() is
        called again and again."""
        with contextlib.ExitStack() as stack:
            notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            stack.callback(pathlib.Path(self._notify_path).unlink)
            notify.bind(self._notify_path)
            notify.setblocking(False)
            stack.callback(self.end_agent)
            service = self.popen([f"{PROGRAM_DIR}/slipwayd"])
            if not self.wait(lambda: is_ready(notify), "slipwayd to be ready"):
                return
            call = self.popen(["busctl", "call", "org.slipway.Agent", "/org/slipway/Agent/app/web", "org.slipway.App", method,
                               *signature_and_values], in_group=False)
            quiet = Quiet(self)
            if self.wait(lambda: (meanwhile(), call.poll() is not None and quiet.long_enough())[1],
                         "slipwayd to have nothing to do"):
                require(service.poll() is None, f"slipwayd ended with {service.returncode}")
                require(call.returncode == 0, f"{method} failed: {self.output_of(call)}")

    # -- the host

    def read_disk(self):
        return [Tree.read(self.path(directory)) for directory in DIRECTORIES]

    def write_disk(self, trees):
        for directory, tree in zip(DIRECTORIES, trees, strict=True):
            tree.write(self.path(directory))

    def model(self):
        return disk_model.Disk([self.path(directory) for directory in DIRECTORIES])

    def forget_boot(self):
        """What a reboot clears, and which boot it is."""
        disk_model.clear(self.path(RUNTIME_DIR))
        self.crash.boot_id = uuid.uuid4().bytes

    def restart_unit(self):
        """As at boot; whether it comes up is for the agent to see."""
        self.host.run(["systemctl", "restart", "web.service"], check=False)

    # -- the unit that a release brings

    def _link(self):
        return pathlib.Path(self.path("/etc/systemd/system")) / MORE_UNIT

    def restart_more(self, *, keep_link):
        """As at boot; keep_link: what systemd has linked was on the disk."""
        self.host.run(["systemctl", "stop", MORE_UNIT], check=False)
        if not keep_link:
            self._link().unlink(missing_ok=True)
        self.host.run(["systemctl", "daemon-reload"])
        if self._link().is_symlink():
            self.host.run(["systemctl", "start", MORE_UNIT], check=False)

    def more(self):
        """Whether the unit is linked, known and running; None where it is neither, else what is."""
        known = self.host.unit(MORE_UNIT, "LoadState", "ActiveState", "NeedDaemonReload")
        found = (self._link().is_symlink(), *known.values())
        return None if found == (False, "not-found", "inactive", "no") else dict(linked=found[0], **known)

    def running(self):
        """The release whose processes the unit has, or None."""
        if self._unit_group is None:
            found = list(self.host.cgroup.rglob("web.service"))
            if not found:
                return None
            self._unit_group = found[0]
        try:
            pids = (self._unit_group / "cgroup.procs").read_text(encoding="ascii").split()
            return os.path.basename(os.readlink(f"/proc/{pids[0]}/cwd")) if pids else None
        except FileNotFoundError:
            return None

    def trace(self):
        """The hooks that ran, each once."""
        with contextlib.suppress(FileNotFoundError), open(self.path(TRACE), encoding="ascii") as file:
            return frozenset(file.read().splitlines())
        return frozenset()

    def forget_trace(self):
        pathlib.Path(self.path(TRACE)).unlink(missing_ok=True)

    def runtime_files(self):
        return set(os.listdir(self.path(RUNTIME_DIR)))

    def state(self):
        with open(self.path("/var/lib/slipway/web.json"), encoding="utf-8") as file:
            return json.load(file)


def is_ready(notify):
    with contextlib.suppress(BlockingIOError):
        while True:
            if b"READY=1" in notify.recv(4096).splitlines():
                return True
    return False


class Quiet:
    """Whether the agent has passed no point for a while, and says that it is idle."""

    def __init__(self, station):
        self._station = station
        self._n_points = None
        self._since = 0

    def long_enough(self):
        n_points = self._station.crash.n_points
        if n_points != self._n_points:
            self._n_points, self._since = n_points, time.monotonic()
        return time.monotonic() - self._since > QUIET_SEC and self._station.state()["phase"] == "idle"


# -- judging

def what_it_is(tree):
    """A release's tree as far as it must be whole. Times are the index's, but for what is not in it: the top directory, and
    what belongs to shared links."""
    return {path: (meta.mode, meta.mtime_nsec == ENTRY_TIME_NSEC, content)
            for path, (meta, content) in tree.entries.items()}


def as_seen(tree):
    """A tree as far as the model knows it: times that nobody set are the kernel's, and what confirms a release is written by
    the application."""
    return {path: (meta.mode, meta.uid, meta.gid, content) for path, (meta, content) in tree.entries.items()
            if path != CONFIRMATION}


def as_kept(tree):
    """A tree as it must be after every run: all but the state file's content, owners' and times' noise."""
    return {path: entry[:3] + (None if path == "web.json" else entry[3],) for path, entry in as_seen(tree).items()}


def names_below(tree, directory="."):
    """The names in a directory of a tree."""
    return {os.path.basename(path) for path in tree.entries if path != "." and (os.path.dirname(path) or ".") == directory}


def live_release(web):
    """What `current` names in a tree of /srv/web."""
    meta_and_target = web.entries.get("current")
    return None if meta_and_target is None else os.path.basename(meta_and_target[1])


# what differs from run to run and host to host: random names, the boot, times, and so the manifests' digests
RANDOM_NAME = re.compile(r"[0-9a-f]{16}")
CHANGING = re.compile(rb'"(at|since|installed|sha256|\w+_ms)":\s*("[^"]*"|\d+)')


def fingerprint(disk):
    """The same for disks that are the same to the agent."""
    parts = []
    for tree in disk:
        part = []
        for path, (meta, content) in tree.entries.items():
            if "web.json" in path:
                content = CHANGING.sub(b"", content)
            elif path.endswith(".map"):
                content = content[BOOT_ID_BYTES:]
            part.append((RANDOM_NAME.sub("X", path), meta.mode, meta.uid, meta.gid, repr(content)))
        parts.append(tuple(sorted(part)))
    return tuple(parts)


class Sweeper:
    """One scenario on one station. `survived` is shared by all that sweep it: the disks after a loss of power from which the
    agent has come up well."""

    def __init__(self, station, scenario, survived, flags=0):
        self.station = station
        self.scenario = scenario
        self.survived = survived
        self.flags = flags
        self.trees = {}   # release -> what_it_is() of one that was installed undisturbed
        self._prepare()

    # -- the beginning

    def _prepare(self):
        station, scenario = self.station, self.scenario
        station.host.run(["systemctl", "stop", "web.service"], check=False)
        for directory in DIRECTORIES:
            disk_model.clear(station.path(directory))
        station.forget_boot()
        station.crash.arm(0)
        store = station.host.work / "srv/store"
        store.mkdir(exist_ok=True)
        disk_model.clear(store)
        if scenario.control:
            station.make_control()
        web = toy.Toy(station.host, formats.FileStore(store))
        web.is_proven = "provenance" in scenario.config
        web.config.update(keep=5, hook_users=["root"], units=["web*.service"], unit_files=[MORE_UNIT])
        toy.configure([web], poll={"interval": "1h", "jitter": "0%"})
        for script in scenario.releases:
            web.release(script, bake="10ms", more=MORE, also={"links": {"shared": SHARED[:1]}})
            self._once(0)
        self._learn_trees()
        if scenario.rotates:
            self._rotate(web)
        if scenario.script:
            web.release(scenario.script, bake="10ms", more=MORE + (MORE_FILES if scenario.brings else []),
                        units=() if scenario.brings else None, health=scenario.health, like=1 if scenario.same else None, also={
                "links": {"shared": SHARED}, **({"hooks": HOOKS} if scenario.end.hooks else {}),
                **(BRINGS if scenario.brings else {})})
        if scenario.config:
            web.config.update(scenario.config)
            toy.configure([web], poll={"interval": "1h", "jitter": "0%"})
        if scenario.before:
            scenario.before(station)
        if scenario.cut_off:
            self._cut_off(*scenario.cut_off)
        self.beginning = station.read_disk()
        self.before = live_release(self.beginning[0])
        self._count()

    def _rotate(self, web):
        before, web.key = web.key, formats.Key.new()
        web.store.put("trust/2.json", formats.trust_root([web.key], signers=[before, web.key], version=2))

    def _cut_off(self, act, call, n):
        """Two runs: one to find the place, the other ends there."""
        station = self.station
        disk = station.read_disk()
        station.crash.arm(0)
        act(station)
        places = [r.point for r in station.crash.records() if r.operation == disk_model.BUS and r.text.decode() == call]
        require(len(places) >= n, f"{call} was called at {places}")
        self._learn_trees()
        station.write_disk(disk)
        station.forget_boot()
        station.restart_unit()
        station.crash.arm(places[n - 1])
        act(station)
        require(station.crash.stopped, f"there was no point {places[n - 1]}")

    def _once(self, *results):
        result = self.station.run_to_end("slipwayd", "--once")
        require(result.rc in results, f"slipwayd --once ended with {result.rc}:\n{result.stdout}")

    def _learn_trees(self):
        web = self.station.read_disk()[0]
        for name in os.listdir(self.station.path("/srv/web/releases")) if "releases" in web.entries else []:
            self.trees.setdefault(name, what_it_is(web.below(f"releases/{name}")))

    def _count(self):
        """An undisturbed run: how many points there are, and how it ends."""
        station, end = self.station, self.scenario.end
        self._begin()
        model = station.model()
        station.crash.arm(0)
        self.scenario.act(station)
        self.n_points = station.crash.n_points
        model.apply(station.crash.records())
        self._learn_trees()
        disk = station.read_disk()
        self.end_disk = list(map(as_kept, disk))
        self.end_state = without_times(station.state())
        self.end_root = disk[1].entries.get(KEPT_ROOT)
        require((self.end_root is not None) == self.scenario.rotates, f"the kept trust root is {self.end_root}")
        require(set(self.trees) >= end.releases == names_below(disk[0], "releases"), f"the releases are {set(self.trees)}")
        named = {"current", "releases", "shared", *(["control"] if self.scenario.control else [])}
        require(names_below(disk[0]) == named, f"these are in /srv/web: {names_below(disk[0])}")
        require(not names_below(disk[2]), f"these are in the spool: {names_below(disk[2])}")
        said = station.state()
        found = End(said["current"], end.releases, said.get("failed", {}).get("release"),
                    said.get("pinned", {}).get("release"), said.get("staged", {}).get("release"), station.trace())
        require(found == end, f"the undisturbed run ended with {found}")
        self._check_end("after the undisturbed run")
        for names in False, True:
            self._check_kept(model.left(names=names))

    def _check_kept(self, disk):
        """What is done stays done, whatever becomes of the host."""
        self._check_live(disk[0], "when power is lost after it")
        require(live_release(disk[0]) == self.scenario.end.live, f"a loss of power brings back {live_release(disk[0])}")
        state = without_times(json.loads(disk[1].entries["web.json"][1]))
        require(state == self.end_state, f"a loss of power brings back the state\n{json.dumps(state)}")

    def _begin(self):
        station = self.station
        station.write_disk(self.beginning)
        station.forget_boot()
        station.forget_trace()
        if self.scenario.brings and station.more():
            station.restart_more(keep_link=False)
        station.restart_unit()
        require(station.running() == self.before, f"the beginning runs {station.running()}, not {self.before}")

    # -- one point

    def judge(self, point):
        verdict = Verdict(point)
        try:
            self._judge(verdict)
        except Violation as e:
            verdict.violations.append(f"on the way to it: {e}")
            self.station.end_agent()
        return verdict

    def _judge(self, verdict):
        station = self.station
        self._begin()
        model = station.model()
        station.crash.arm(verdict.point, self.flags)
        self.scenario.act(station)
        verdict.n_points = station.crash.n_points
        records = station.crash.records()
        stops = [r.text.decode() for r in records if r.operation == disk_model.STOP]
        if not stops:
            require(verdict.n_points < verdict.point, f"{verdict.n_points} points were counted, and none was stopped at")
            self._check_end("after a run that was not stopped")
            return
        verdict.stopped_at = stops[0]
        model.apply(records)
        disk = station.read_disk()
        require(list(map(as_seen, disk)) == list(map(as_seen, model.seen())), "something changed that was not counted:\n"
                + difference(map(as_seen, model.seen()), map(as_seen, disk)))
        for way in WAYS:
            try:
                self._judge_way(way, disk if way == "killed" else model.left(names=way == "names"))
            except Violation as e:
                verdict.violations.append(f"{way}: {e}")
                station.end_agent()

    def _judge_way(self, way, disk):
        station = self.station
        self._check_live(disk[0], "after the crash")
        kept = disk[1].entries.get(KEPT_ROOT)
        require(kept is None or kept[1] == self.end_root[1], f"after the crash, the kept trust root is {kept}")
        if way != "killed":
            seen = fingerprint(disk), station.trace()
            if seen in self.survived:
                return
            station.write_disk(disk)
            station.forget_boot()
            if self.scenario.brings:
                station.restart_more(keep_link=way == "names")
            station.restart_unit()
        station.crash.arm(0)
        self._once(0, 3)
        if self.scenario.again and live_release(station.read_disk()[0]) == self.before:
            self._check("after an order that was lost", list(map(as_kept, self.beginning)), self.before)
            self.scenario.act(station)
        self._check_end("in the end")
        if way != "killed":
            self.survived.add(seen)

    def _check_live(self, web, when):
        live = live_release(web)
        require(live in {self.before, self.scenario.end.live, *self.trees}, f"{when}, current is {live}")
        if live is not None:
            tree = web.below(f"releases/{live}")
            require(tree is not None, f"{when}, current is {live}, which is not there")
            require(what_it_is(tree) == self.trees[live], f"{when}, {live} is live and not whole:\n"
                    + difference([self.trees[live]], [what_it_is(tree)]))

    def _check(self, when, wanted, live):
        """The disk holds just what it is to hold, `live` is live and running, and the state says so."""
        station = self.station
        disk = station.read_disk()
        require(live_release(disk[0]) == live, f"{when}, current is {live_release(disk[0])}, not {live}")
        require(station.running() == live, f"{when}, the unit runs {station.running()}, not {live}")
        require(list(map(as_kept, disk)) == wanted, f"{when}, the disk is not as it is after an undisturbed run:\n"
                + difference(wanted, map(as_kept, disk)))
        require(station.runtime_files() <= {"web.lock"}, f"{when}, these are left in {RUNTIME_DIR}: {station.runtime_files()}")
        if self.scenario.brings:
            wanted = {"linked": True, "LoadState": "loaded", "ActiveState": "active", "NeedDaemonReload": "no"} \
                if live != self.before else None
            require(station.more() == wanted, f"{when}, the unit that the release brings is {station.more()}")
        said = station.state()
        require((said["phase"], said.get("current")) == ("idle", live), f"{when}, the state says {said['phase']} "
                f"{said.get('current')}")
        require("pending" not in said, f"{when}, {said.get('pending')} is pending")

    def _check_end(self, when):
        end = self.scenario.end
        self._check(when, self.end_disk, end.live)
        require(self.station.trace() >= end.hooks, f"{when}, of the hooks only {set(self.station.trace())} have run")
        state = without_times(self.station.state())
        require(state == self.end_state, f"{when}, the state is\n{json.dumps(state)}\nand not\n{json.dumps(self.end_state)}")


def without_times(state):
    """The state as it must be whatever happened on the way: what happened, and when, is history."""
    kept = {name: value for name, value in state.items() if name not in ("history", "hooks")}
    for part, name in [("failed", "at"), ("pinned", "since"), ("staged", "since")]:
        if part in kept:
            kept[part] = {k: v for k, v in kept[part].items() if k not in (name, "reason")}
    kept["releases"] = sorted(({k: v for k, v in r.items() if k != "installed"} for r in kept["releases"]),
                              key=lambda r: r["release"])
    return kept


def difference(wanted, found):
    lines = []
    for number, (a, b) in enumerate(zip(wanted, found, strict=True)):
        for path in sorted(a.keys() | b.keys()):
            if a.get(path) != b.get(path):
                lines.append(f"  {number} {path}: {a.get(path)} expected, {b.get(path)} found")
    return "\n".join(lines)


class Points:
    """The points to judge, handed out to several sweepers: 1, 2, … until there are no more. What goes on at the same time does
    not always take the same number of calls, so the end is past the longest run that was seen, and where a run came to its end
    without the point that was asked for."""

    def __init__(self, n_points, step=1):
        self._lock = threading.Lock()
        self._n_points, self._step = n_points, step
        self._next, self._ended = 1, False

    def take(self):
        with self._lock:
            if self._ended and self._next > self._n_points:
                return None
            point = self._next
            self._next += self._step
            return point

    def learn(self, verdict):
        with self._lock:
            if not verdict.stopped_at:
                self._ended = self._ended or not verdict.violations
                self._n_points = max(self._n_points, verdict.n_points)
            if verdict.violations and verdict.point > self._n_points:
                self._ended = True


def sweep(stations, scenario, step=1, flags=0):
    """Judges the points of a scenario, every step-th, on several stations at once; returns the verdicts on those that there
    are. flags: of CrashFile, a fault that all runs have."""
    with concurrent.futures.ThreadPoolExecutor(len(stations)) as pool:
        survived = set()
        sweepers = list(pool.map(lambda station: Sweeper(station, scenario, survived, flags), stations))
        points = Points(max(sweeper.n_points for sweeper in sweepers), step)

        def work(sweeper):
            verdicts = []
            while (point := points.take()) is not None:
                for _ in range(TRIES):
                    verdict = sweeper.judge(point)
                    points.learn(verdict)
                    if verdict.stopped_at or verdict.violations:
                        break
                verdicts.append(verdict)
            return verdicts

        verdicts = sorted((v for part in pool.map(work, sweepers) for v in part), key=lambda v: v.point)
    n_points = max(sweeper.n_points for sweeper in sweepers)
    return [v for v in verdicts if v.stopped_at or v.violations or v.point <= n_points]
