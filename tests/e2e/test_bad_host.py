"""A host that is full, cannot be written, or is configured wrongly: nothing that runs is touched, and the agent says why."""

import base64
import json
import random
import re

import pytest

import application
import formats
import slipway
from formats import Entry
from waiting import wait_for

RELEASES_BYTES = 8 << 20
RELEASES_INODES = 400
SPOOL_BYTES = 4 << 20


@pytest.fixture(scope="module")
def follower(make_follower):
    """Its releases and its spool lie on small file systems of their own."""
    follower = make_follower()
    follower.host.mount_small("/srv/web", RELEASES_BYTES, RELEASES_INODES)
    follower.host.mount_small("/var/cache/slipway", SPOOL_BYTES)
    follower.start()
    return follower


def noise(n_bytes):
    return Entry("noise", content=random.Random(n_bytes).randbytes(n_bytes))


def digests(release):
    return [release.payload["release"][name]["sha256"] for name in ("artifact", "index")]


NO_ROOM = {
    "disk full": ([noise(RELEASES_BYTES)], r"the release needs 9 MiB on /srv/web \(9 for its tree, 0 for the download\), "
                                               r"but \d MiB are free, of which 1 have to stay so: make room"),
    "out of inodes": ([Entry(f"file-{i:04}") for i in range(RELEASES_INODES)],
                      r"the release has 4\d\d files and directories, but only 3\d\d more can be made on /srv/web"),
    "spool full": ([noise(SPOOL_BYTES + (3 << 19))],
                   r"the release needs 6 MiB on /var/cache/slipway for the download, but \d MiB are free"),
}


@pytest.mark.parametrize("case", NO_ROOM)
def test_no_room(follower, case):
    more, said = NO_ROOM[case]
    release = follower.make(more=more)
    with follower.undisturbed(digests(release)):
        follower.publish(release)
        follower.wait_failed(release, said, condemned=False)


def test_full_disk_heals(follower):
    """The deployment that failed is tried again by itself."""
    follower.host.run(["fallocate", "-l", str(RELEASES_BYTES - (1 << 20)), "/srv/web/fill"])
    release = follower.make(more=[noise(2 << 20)])
    follower.cursor = follower.host.journal_cursor()
    follower.publish(release)
    follower.wait_failed(release, r"the release needs 3 MiB on /srv/web", condemned=False)
    follower.host.run(["rm", "/srv/web/fill"])
    follower.wait_live(release)
    follower.assert_nothing_left()


def test_read_only_root(follower):
    release = follower.make()
    with follower.undisturbed(digests(release), then_good=False):
        follower.host.run(["mount", "-o", "remount,ro", "/srv/web"])
        try:
            follower.publish(release)
            follower.wait_failed(release, r"Read-only file system", condemned=False)
        finally:
            follower.host.run(["mount", "-o", "remount,rw", "/srv/web"])
    follower.wait_live(release)
    follower.assert_nothing_left()


# -- configurations that the agent refuses to start with

CONFIG = "/etc/slipway/agent.json"
APP = '{ "app": "web", "channel": "prod", "root": "/srv/web" }'


def config(*lines):
    return "\n".join(["{", *lines, "}"]) + "\n"


def with_app(app):
    return config('  "store": "s3://bucket",', f'  "apps": [ {APP},', f"    {app} ]")


# what stands in the file, and what is to be said of it
CONFIGS = {
    "unknown key": (config('  "store": "s3://bucket",', '  "intervall": "15s",', f'  "apps": [ {APP} ]'),
                    r"agent\.json:3: intervall: this version knows no such"),
    "unknown key below": (config('  "store": "s3://bucket",', f'  "apps": [ {APP} ],', '  "poll": {', '    "every": "1s" }'),
                          r"agent\.json:5: poll\.every: this version knows no such"),
    "duplicate key": (config('  "store": "s3://bucket",', '  "store": "s3://other",', f'  "apps": [ {APP} ]'),
                      r"agent\.json:3: store: stands there twice"),
    "wrong type": (config('  "store": "s3://bucket",', '  "report": "yes",', f'  "apps": [ {APP} ]'),
                   r"agent\.json:3: report: must be true or false"),
    "interval too short": (config('  "store": "s3://bucket",', '  "poll": { "interval": "1ms" },', f'  "apps": [ {APP} ]'),
                           r"agent\.json:3: poll\.interval: must be 1s to 24h"),
    "syntax": (config('  "store": "s3://bucket"', f'  "apps": [ {APP} ]'), r"agent\.json: line 3, column 3: "),
    "cut off": ('{ "store": "s3://buck', r"agent\.json: line 1, column \d+: "),
    "empty": ("", r"agent\.json: line 1, column 1: "),
    "not UTF-8": (b'{ "store": "s3://caf\xe9" }', r"agent\.json: line 1, column \d+: not UTF-8"),
    "no store": (config(f'  "apps": [ {APP} ]'), r"agent\.json: store: missing; set it to"),
    "no apps": (config('  "store": "s3://bucket"'), r"agent\.json: apps: missing; name at least one"),
    "app without channel": (with_app('{ "app": "api" }'), r"agent\.json:4: apps\[1\]\.channel: missing"),
    "app twice": (with_app('{ "app": "web", "channel": "c", "root": "/srv/other" }'),
                  r"agent\.json:4: apps\[1\]\.app: web stands there twice"),
    "roots within one another": (with_app('{ "app": "api", "channel": "c", "root": "/srv/web/api" }'),
                                 r"agent\.json:4: apps\[1\]\.root: /srv/web/api is not apart from /srv/web"),
    "root that is not absolute": (with_app('{ "app": "api", "channel": "c", "root": "srv/api" }'),
                                  r"agent\.json:4: apps\[1\]\.root: .* is not an absolute path"),
    "tag that is not there": (with_app('{ "app": "api", "channel": "{tag:Stage}" }'),
                              r"agent\.json:4: apps\[1\]\.channel: \{tag:Stage\} has no value"),
    "unknown scheme": (config('  "store": "ftp://bucket",', f'  "apps": [ {APP} ]'),
                       r"agent\.json:2: store: .*ftp://bucket.* use s3://bucket/prefix, file:///directory or https"),
}


@pytest.fixture(scope="module")
def broken(follower):
    """The follower, whose configuration the tests break; at the end it is well again."""
    yield follower
    follower.host.run(["rm", "-rf", "/etc/slipway/agent.d"])
    follower.configure()
    follower.host.run(["systemctl", "restart", "slipwayd.service"])


def assert_refuses_to_start(follower, said):
    """Restarted, the agent must not come up but say why; what runs is not touched, and `slipway` still tells what is live."""
    host = follower.host
    running = follower.snapshot()
    follower.cursor = host.journal_cursor()
    assert host.run(["systemctl", "restart", "slipwayd.service"], check=False).rc != 0
    follower.wait_said(said)
    shown = host.run(["systemctl", "status", "--full", "slipwayd.service"], check=False).stdout
    assert re.search(said, shown), shown
    unit = host.unit("slipwayd.service", "ActiveState", "SubState", "ExecMainStatus")
    # it is started again by systemd, later
    assert (unit["ActiveState"], unit["SubState"], unit["ExecMainStatus"]) == ("activating", "auto-restart", "1")
    now = follower.snapshot()
    assert (now.current, now.service, now.answer) == (running.current, running.service, running.answer)
    [app] = slipway.status(host)["apps"]
    assert app["state"]["current"] == running.current


@pytest.mark.parametrize("case", CONFIGS)
def test_broken_configuration(broken, case):
    text, said = CONFIGS[case]
    broken.host.write(CONFIG, text)
    assert_refuses_to_start(broken, said)


def test_no_configuration(broken):
    broken.host.run(["rm", CONFIG])
    assert_refuses_to_start(broken, r"/etc/slipway/agent\.json: No such file or directory")


def test_broken_drop_in(broken):
    broken.configure()
    path = "/etc/slipway/agent.d/50-site.json"
    broken.host.write(path, '{\n\n  "tags": { "Stage": 1 }\n}\n')
    try:
        assert_refuses_to_start(broken, r"/etc/slipway/agent\.d/50-site\.json:3: tags\.Stage: must be a string")
    finally:
        broken.host.run(["rm", path])


def trust_with(**members):
    def make(key):
        payload = json.loads(base64.b64decode(json.loads(formats.trust_root([key]))["payload"]))
        payload["keys"][0].update(members)
        return formats.envelope(formats.TRUST_TYPE, payload, [])
    return make


def newer_trust(key):
    payload = json.loads(base64.b64decode(json.loads(formats.trust_root([key]))["payload"]))
    return formats.envelope(formats.TRUST_TYPE, {"roles": {}, **payload, "schema": "slipway/trust/2"}, [])


TRUST_ROOTS = {
    "of a newer format": (newer_trust, r'root\.json.*this version knows "slipway/trust/1" only.*may be newer'),
    "missing": (None, r"trust root /etc/slipway/trust/root\.json does not exist: make one with `slipway-publish trust init`"),
    "not JSON": (b"-----BEGIN PUBLIC KEY-----\n", r"trust root /etc/slipway/trust/root\.json: line 1, column \d+: "),
    "a manifest": (lambda key: formats.envelope(formats.MANIFEST_TYPE, {}, [key]), r"root\.json.*payloadType: must be"),
    "key that cannot be read": (trust_with(public="bm90IGEga2V5"), r"root\.json.*keys\[0\]\.public: "),
    "key under another id": (trust_with(id="0" * 64), r"root\.json.*keys\[0\]\.id: is not the SHA-256 of this public key"),
}


@pytest.mark.parametrize("case", TRUST_ROOTS)
def test_broken_trust_root(broken, case):
    content, said = TRUST_ROOTS[case]
    broken.configure()
    if content is None:
        broken.host.run(["rm", "/etc/slipway/trust/root.json"])
    else:
        broken.host.write("/etc/slipway/trust/root.json", content if isinstance(content, bytes) else content(broken.key))
    assert_refuses_to_start(broken, said)


def test_repaired_configuration(broken):
    """systemd has kept trying: no restart by hand is needed."""
    broken.host.write(CONFIG, "{}")
    assert_refuses_to_start(broken, r"agent\.json: store: missing")
    broken.configure()
    release = broken.make()
    broken.publish(release)
    wait_for(lambda: broken.host.unit("slipwayd.service", "ActiveState")["ActiveState"] == "active", 30, "the agent to start")
    broken.wait_live(release)
    broken.assert_nothing_left()
    assert application.version(broken.host) == str(broken.n_releases)
