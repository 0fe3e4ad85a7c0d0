"""Small services whose releases are shell scripts, and channels that a test writes itself: a release can be held at its start
or told to die, and everything goes fast. For the real thing see application.py and slipway.Publisher."""

import datetime
import os

import formats
import slipway
from waiting import wait_for

WAIT_SEC = 40
GATE_SEC = 20

UNIT = """\
[Service]
Type=notify
NotifyAccess=all
WorkingDirectory=/srv/{app}/current
ExecStart=/srv/{app}/current/run
ExecReload=cp -f /srv/{app}/current/name /run/{app}.reloaded
TimeoutStartSec=10min
TimeoutStopSec=2s
"""

# what a release does, as lines of its script
READY = "systemd-notify --ready"
RUN = "exec sleep infinity"
DIE = "exit 7"


def gate(app="web"):
    """Waits, where the gate is closed, until the test opens it (see Toy.open_gate)."""
    return f"[ ! -p /var/tmp/{app}.gate ] || read -r _ </var/tmp/{app}.gate"


GOOD = [READY, RUN]
CRASHING = [DIE]


def entries(name, script, app="web"):
    return [formats.Entry("app", content=app.encode()),
            formats.Entry("name", content=f"{name}\n".encode()),
            formats.Entry("run", content="\n".join(["#!/bin/sh", *script, ""]).encode(), mode=0o755)]


def closed_window():
    """A window's span that is far from now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return formats.window_span(now + datetime.timedelta(hours=12), now + datetime.timedelta(hours=13))


def open_window():
    """One that is open for an hour before and after now."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return formats.window_span(now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=1))


class Toy:
    """An app on a host and its channel in a store. Releases are r1, r2, …, with deployments and serials of the same number."""

    def __init__(self, host, store, *, app="web", channel="prod"):
        self.host, self.store, self.app, self.channel = host, store, app, channel
        self.unit = f"{app}.service"
        self.root = f"/srv/{app}"
        self.key = formats.Key.new()
        self.n_releases = 0
        self.is_proven = False  # its releases have a provenance
        self.config = {"app": app, "channel": channel}

    def release(self, script=GOOD, *, bake="100ms", deadline="10min", units=None, more=(), also=None, health=None, again=None,
                like=None, **options):
        """Publishes a release and returns its id. units: pairs of a unit and what is done to it, in their order, instead of
        the restart of the app's own; also: more members of "activate"; health: of its "health"; again: the number of a
        release whose id and script this one has; like: of one whose content it has, under another id."""
        self.n_releases += 1
        n = self.n_releases
        name = f"r{again or n}"
        activate = {**(also or {}), "health": {"bake": bake, "deadline": deadline, **(health or {})}}
        units = [(self.unit, "restart")] if units is None else units
        if units:
            activate["units"] = [{"name": name, "action": action} for name, action in units]
        tree = sorted([*entries(f"r{like}" if like else name, script, self.app), *more], key=lambda e: e.path.encode())
        release = formats.make_release(tree, name, app=self.app, channel=self.channel, serial=n, deployment=n,
                                       activate=activate, **options)
        if self.is_proven:
            formats.add_provenance(release, formats.envelope(formats.STATEMENT_TYPE, formats.statement(release), [self.key]))
        formats.publish(self.store, release, [self.key], app=self.app, channel=self.channel)
        return name

    # -- the host

    def close_gate(self):
        """Releases whose script has a gate wait there from now on, also after a crash of the host."""
        self.host.run(["mkfifo", f"/var/tmp/{self.app}.gate"])

    def open_gate(self):
        """Waits until a script has come to the gate, and lets it and all later ones through."""
        path = f"/var/tmp/{self.app}.gate"
        # a script that is killed meanwhile need not be told
        self.host.run(["timeout", GATE_SEC, "sh", "-c", f'trap "" PIPE; exec 3>{path} && rm {path} && {{ echo >&3 || :; }}'])

    def state(self):
        return self.status()["state"]

    def status(self):
        return next(app for app in slipway.status(self.host)["apps"] if app["state"]["app"] == self.app)

    def wait(self, condition, what):
        """Waits until condition(state) holds and returns the state."""
        return wait_for(lambda: (lambda s: condition(s) and s)(self.state()), WAIT_SEC, f"{self.app} on {self.host}: {what}")

    def wait_phase(self, phase, release):
        return self.wait(lambda s: (s["phase"], s.get("pending", {}).get("release")) == (phase, release), f"{phase} {release}")

    def wait_live(self, release):
        """Waits until the release is live and everything about it is done."""
        state = self.wait(lambda s: (s["phase"], s.get("current")) == ("idle", release), f"{release} to be live")
        assert slipway.current(self.host, self.root) == release
        return state

    def wait_failed(self, release):
        """Waits until the release was taken back, whatever is live then."""
        return self.wait(lambda s: (s["phase"], s.get("failed", {}).get("release")) == ("idle", release),
                         f"{release} to be given up")

    def running(self, unit=None):
        """The release that the process of a unit, the app's own by default, was started from, or None."""
        pid = self.host.unit(unit or self.unit, "MainPID")["MainPID"]
        directory = self.host.readlink(f"/proc/{pid}/cwd") if pid != "0" else None
        return os.path.basename(directory) if directory else None

    def leftovers(self):
        """Names that have no business on the host while nothing is under way."""
        known = {r["release"] for r in self.state()["releases"]}
        found = [n for n in self.host.listdir(self.root) if n not in ("releases", "current", "shared", "control")]
        found += [n for n in self.host.listdir(f"{self.root}/releases") if n not in known]
        return found + self.host.listdir("/var/cache/slipway")

    def assert_whole(self, release):
        """The release is live, its tree is whole, its process runs, and nothing is left over."""
        self.wait_live(release)
        assert self.host.read(f"{self.root}/current/name") == f"{release}\n"
        wait_for(lambda: self.running() == release, WAIT_SEC, f"{self.unit} to run {release}")
        wait_for(lambda: not self.leftovers(), WAIT_SEC, "leftovers to be removed")


def local_store(host):
    """A store in a directory of the host, written from outside."""
    directory = host.work / "srv/store"
    directory.mkdir(exist_ok=True)
    return formats.FileStore(directory)


def configure(toys, *, url="file:///srv/store", environment=None, apps=None, **members):
    """Writes units, configuration and trust root to the host of the toys, which all are on one."""
    host = toys[0].host
    for toy in toys:
        host.write(f"/etc/systemd/system/{toy.unit}", UNIT.format(app=toy.app))
    host.run(["systemctl", "daemon-reload"])
    members.setdefault("report", environment is not None)
    slipway.configure(host, url, formats.trust_root([t.key for t in toys]), environment=environment,
                      apps=apps or [t.config for t in toys], **members)


def start(toys, **options):
    """configure(), then the agent."""
    configure(toys, **options)
    toys[0].host.start_unit("slipwayd.service")
