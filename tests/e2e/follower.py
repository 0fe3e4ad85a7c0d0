"""A host whose agent follows a channel that the test writes itself, and what has to hold whatever the channel says."""

import contextlib
import dataclasses
import re

import application
import formats
import slipway
from waiting import wait_for

ACTIVATE = {"units": [{"name": "web.service", "action": "restart"}], "health": {"bake": "100ms", "deadline": "20s"}}
DEPLOY_TIMEOUT_SEC = 45
REFUSE_TIMEOUT_SEC = 30
LEFTOVER_TIMEOUT_SEC = 15

# what has no business on the host between deployments, one name a line; the releases are judged by the caller
LIST_FILES = """\
ls -A /srv/web | grep -vx -e current -e releases | sed 's,^,/srv/web/,'
ls -A /srv/web/releases | sed 's,^,release ,'
ls -A /var/cache/slipway | sed 's,^,/var/cache/slipway/,'
ls -A /var/lib/slipway | grep -vx -e web.json -e web.index | sed 's,^,/var/lib/slipway/,'
ls -A /var/lib/slipway/web.index | sed 's,^,index ,'
grep -lx slipway-unpack /proc/[0-9]*/comm 2>/dev/null | sed 's,^,running: slipway-unpack ,'
true
"""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What bad input must not change: what is live, its process, and the agent's."""

    current: str
    service: dict
    agent: dict
    answer: dict


class Follower:
    """The host, its agent and the channel. Releases are r1, r2, … with serials and deployments of the same number."""

    def __init__(self, host, store, directory, url=None, environment=None):
        self.host = host
        self.store = store
        self.url = url or store.url
        self.keys = [formats.Key.new()]  # that sign what is honest; `threshold` of them must
        self.threshold = 1
        self.n_releases = 0
        self.policy = None  # "provenance" of the app: then each release of make() has one that fits
        self.lived = []  # numbers of those that went live
        self.cursor = None
        self._environment = environment
        self._entries = formats.tree_entries(application.small_tree(directory, "0"))

    @property
    def key(self):
        return self.keys[0]

    def configure(self, **members):
        if self.policy is not None:
            members["apps"] = [{"app": "web", "channel": "prod", "units": ["web*.service"], "provenance": self.policy}]
        slipway.configure(self.host, self.url, formats.trust_root(self.keys, self.threshold), environment=self._environment,
                          **members)

    def start(self):
        """Starts the agent, which deploys the first release."""
        self.configure()
        self.host.write_unit("web.service", application.UNIT)
        self.host.start_unit("slipwayd.service")
        self.good()

    # -- the channel

    def entries(self, version):
        """The tree of a good release."""
        content = f'{{"version": "{version}"}}\n'.encode()
        return [dataclasses.replace(e, content=content) if e.path == "version.json" else e for e in self._entries]

    def make(self, entries=None, more=()):
        """The next release, good unless the caller alters it: of other entries, or with more of them."""
        self.n_releases += 1
        n = self.n_releases
        entries = self.entries(n) if entries is None else entries
        if more:
            entries = sorted([*entries, *more], key=lambda e: e.path.encode())
        release = formats.make_release(entries, f"r{n}", serial=n, deployment=n, activate=ACTIVATE)
        if self.policy is not None:
            formats.add_provenance(release, self.sign_statement(formats.statement(release)))
        return release

    def publish(self, release):
        formats.publish(self.store, release, self.keys)

    def put_manifest(self, data):
        self.store.put(formats.manifest_path("web", "prod"), data)

    def sign(self, payload):
        """A manifest's bytes, of an object or of bytes."""
        return formats.envelope(formats.MANIFEST_TYPE, payload, self.keys)

    def sign_statement(self, statement):
        """A provenance's bytes, of an object or of bytes."""
        return formats.envelope(formats.STATEMENT_TYPE, statement, [self.key])

    def good(self):
        """Publishes the next release, which must go live by the agent's own polling; returns it."""
        release = self.make()
        self.publish(release)
        self.wait_live(release)
        return release

    # -- the host

    def status(self):
        [app] = slipway.status(self.host)["apps"]
        return app

    def wait_live(self, release):
        name = release.payload["release"]["id"]

        def is_live():
            state = self.status()["state"]
            return (state["phase"], state.get("current")) == ("idle", name)
        wait_for(is_live, DEPLOY_TIMEOUT_SEC, f"{name} to go live")
        wait_for(lambda: (application.answer(self.host) or {}).get("release") == name, DEPLOY_TIMEOUT_SEC,
                 f"{name} to answer")
        self.lived.append(release.payload["serial"])

    def snapshot(self):
        return Snapshot(slipway.current(self.host),
                        self.host.unit("web.service", "MainPID", "NRestarts", "ActiveState"),
                        self.host.unit("slipwayd.service", "MainPID", "NRestarts", "ActiveState"),
                        application.answer(self.host))

    def leftovers(self, may_resume=()):
        """What a deployment left behind. may_resume: digests (hex) of objects that may be in the spool."""
        releases = [r["release"] for r in self.status()["state"]["releases"]]
        known = {f"release {name}" for name in releases} | {f"index {name}" for name in releases}
        known |= {f"/var/cache/slipway/{digest}{suffix}" for digest in may_resume for suffix in (".part", ".map")}
        return [line for line in self.host.run(["sh", "-c", LIST_FILES]).stdout.splitlines() if line not in known]

    def assert_nothing_left(self, may_resume=()):
        wait_for(lambda: not self.leftovers(may_resume), LEFTOVER_TIMEOUT_SEC,
                 f"leftovers to be removed, such as {self.leftovers(may_resume)}")

    # -- what it must say

    def wait_said(self, pattern, timeout_sec=REFUSE_TIMEOUT_SEC):
        """Waits for a message of the agent since the bad input."""
        self.host.wait_journal(pattern, unit="slipwayd.service", after=self.cursor, timeout_sec=timeout_sec)

    def wait_refused(self, pattern, timeout_sec=REFUSE_TIMEOUT_SEC):
        """Waits until the manifest is refused: status and journal say why."""
        def says_so():
            poll = self.status()["poll"]
            return not poll["ok"] and re.search(pattern, poll["text"])
        wait_for(says_so, timeout_sec, f"status to say {pattern!r}")
        self.wait_said(pattern)

    def wait_failed(self, release, pattern, *, condemned, timeout_sec=REFUSE_TIMEOUT_SEC):
        """Waits until a deployment failed before the switch: status, history and journal say why. One that is condemned is
        not tried again."""
        name = release.payload["release"]["id"]

        def reasons():
            state = self.status()["state"]
            return [e["reason"] for e in state["history"]
                    if (e["release"], e["result"]) == (name, "failed")], state.get("failed")
        wait_for(lambda: reasons()[0], timeout_sec, f"{name} to fail")
        told, failed = reasons()
        assert re.search(pattern, told[-1]), f"the reason is {told[-1]!r}"
        if condemned:
            assert (failed["release"], failed["reason"]) == (name, told[-1])
        else:
            assert failed is None or failed["release"] != name
        self.wait_said(pattern)

    @contextlib.contextmanager
    def undisturbed(self, may_resume=(), then_good=True):
        """Around bad input. After it, what runs must be untouched and nothing left; then a good release must still be taken
        up by the agent itself."""
        before = self.snapshot()
        self.cursor = self.host.journal_cursor()
        yield
        assert self.snapshot() == before
        self.assert_nothing_left(may_resume)
        if then_good:
            self.good()
            self.assert_nothing_left()
