"""Disks that are full, out of inodes or read-only in each phase: the running release is not touched, or what was begun is taken
back as soon as that can be; the agent keeps polling, and deploys when the disk is well again."""

import contextlib
import json
import random
import re
import time

import pytest

import fault_proxy as faults
import formats
import sandbox
import slipway
import toy
from conftest import fresh_bucket
from waiting import wait_for

ROOT, STATE, CACHE = "/srv/web", "/var/lib/slipway", "/var/cache/slipway"
SMALL_BYTES = 8 << 20
SMALL_INODES = 200
FAULTS = {
    # the first command must end where nothing more can be made
    "full": ("! dd if=/dev/zero of=$1/fill bs=4k 2>/dev/null", "rm $1/fill"),
    "out of inodes": ("mkdir $1/fill; ! touch $(seq -f $1/fill/%g 300) 2>/dev/null", "rm -r $1/fill"),
    "read-only": ("mount -o remount,ro $1", "mount -o remount,rw $1"),
}
SAID = r"No space left on device|Read-only file system|of which \d+ have to stay so|more can be made on /srv/web \(inodes\)"


ALL = [(path, kind) for path in (ROOT, STATE, CACHE) for kind in FAULTS]


def prepare(host):
    """Root, state and spool lie on small file systems of their own."""
    for path in (ROOT, STATE, CACHE):
        host.mount_small(path, SMALL_BYTES, SMALL_INODES)
    host.run(["chown", "slipway:", CACHE])


@pytest.fixture(scope="module")
def web(make_module_hosts):
    """Release r1 is live."""
    [host] = make_module_hosts(1)
    prepare(host)
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    return web


@contextlib.contextmanager
def fault(host, path, kind):
    """What is wrong with a file system inside the block."""
    begin, end = FAULTS[kind]
    host.run(["sh", "-euc", begin, "sh", path])
    try:
        yield
    finally:
        host.run(["sh", "-euc", end, "sh", path])


def processes(web):
    return web.host.unit(web.unit, "MainPID"), web.host.unit("slipwayd.service", "MainPID")


def publish(web, *args, **options):
    """A release that the agent need not wait for."""
    release = web.release(*args, **options)
    web.host.run(["slipway", "poll", "web"], check=False)
    return release


def wait_said(web, cursor, pattern):
    return web.host.wait_journal(pattern, unit="slipwayd.service", after=cursor)


def saved_phase(web):
    return json.loads(web.host.read(f"{STATE}/web.json"))["phase"]


@pytest.mark.parametrize("path, kind", ALL)
def test_before_it_begins(web, path, kind):
    live, before = web.state()["current"], processes(web)
    cursor = web.host.journal_cursor()
    with fault(web.host, path, kind):
        release = publish(web)
        wait_said(web, cursor, SAID)
        assert web.host.readlink(f"{ROOT}/current") == f"releases/{live}"
        assert web.running() == live and processes(web) == before
    web.host.run(["slipway", "resume", "web"])  # at once, without the back-off
    web.assert_whole(release)
    assert processes(web)[1] == before[1]


@pytest.fixture(scope="module")
def fetching(make_module_hosts, s3):
    """Release r1 is live, from S3, and what passes between can be held."""
    [host] = make_module_hosts(1)
    prepare(host)
    with contextlib.ExitStack() as stack:
        bucket = stack.enter_context(fresh_bucket(s3))
        proxy = stack.enter_context(faults.FaultProxy(sandbox.SERVER_ADDRESS, s3.address, tls=s3.tls_context()))
        web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
        web.release()
        toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=proxy.endpoint), report=False)
        web.assert_whole("r1")
        yield web, proxy


# Not the spool read-only: nothing can make a file system so while a file is open for writing there. A spool that is full does
# no harm: what it is to hold has its room already.
@pytest.mark.parametrize("path, kind", [case for case in ALL if case != (CACHE, "read-only")])
def test_while_it_is_fetched(fetching, path, kind):
    """There was room for it, and then somebody else filled the disk."""
    web, proxy = fetching
    host, live = web.host, web.state()["current"]
    before, cursor = processes(web), host.journal_cursor()
    proxy.clear()
    gate = faults.Gate()
    proxy.fault(r"/artifact", gate)
    release = publish(web, more=[formats.Entry("noise", content=random.Random(web.n_releases).randbytes(1 << 20))])
    gate.wait_held(toy.WAIT_SEC)
    with fault(host, path, kind):
        gate.open()
        if path == CACHE:
            web.wait_live(release)
        else:
            wait_said(web, cursor, rf"release {release}\)? failed before the switch, .*({SAID})")
            assert web.running() == live and processes(web) == before
    host.run(["slipway", "resume", "web"])
    web.assert_whole(release)
    assert processes(web)[1] == before[1]


# where a link takes an inode and no room
SWITCH_NEEDS = {(ROOT, "out of inodes"), (ROOT, "read-only"), *((STATE, kind) for kind in FAULTS)}


@pytest.mark.parametrize("path, kind", ALL)
def test_at_the_switch(web, path, kind):
    """It is on disk already, and goes live by hand."""
    live, before = web.state()["current"], processes(web)
    web.host.run(["slipway", "hold", "web"])
    release = web.release()
    web.host.run(["slipway", "stage", "web"])
    web.wait(lambda s: s["phase"] == "idle" and s.get("staged", {}).get("release") == release, f"{release} to be staged")
    with fault(web.host, path, kind):
        done = web.host.run(["slipway", "activate", "web"], check=False)
        if (path, kind) in SWITCH_NEEDS:
            assert done.rc != 0 and re.search(SAID, done.stderr), done
            assert web.running() == live and processes(web) == before
        else:
            assert done.rc == 0 and web.running() == release, done
    if (path, kind) in SWITCH_NEEDS:
        web.host.run(["slipway", "activate", "web"])
    web.assert_whole(release)
    web.host.run(["slipway", "resume", "web"])


@pytest.mark.parametrize("path, kind", ALL)
@pytest.mark.parametrize("phase", ["restarting", "confirming", "finishing"])
def test_good_release_after_the_switch(web, phase, path, kind):
    """It goes live; what could not be saved is saved when that is possible."""
    script, also, health = toy.GOOD, {}, {}
    if phase == "restarting":
        script = [toy.gate(), *toy.GOOD]
    elif phase == "confirming":
        health = {"confirm": "10min"}
    else:
        also = {"hooks": {"post": [{"command": ["/bin/sh", "-c", toy.gate()], "user": "root"}]}}
    if phase != "confirming":
        web.close_gate()
    release = publish(web, script, also=also, health=health)
    web.wait_phase(phase, release)
    with fault(web.host, path, kind):
        if phase != "confirming":
            web.open_gate()
        elif path == STATE:
            # a word that may be lost is not given
            done = web.host.run(["slipway", "confirm", "web"], check=False)
            assert done.rc != 0 and re.search(SAID, done.stderr), done
        else:
            web.host.run(["slipway", "confirm", "web"])
        if (phase, path) != ("confirming", STATE):
            web.wait_live(release)
    if (phase, path) == ("confirming", STATE):
        assert web.state()["phase"] == "confirming"
        web.host.run(["slipway", "confirm", "web"])
    wait_for(lambda: saved_phase(web) == "idle", toy.WAIT_SEC, "the state to be saved")
    web.assert_whole(release)


@pytest.mark.parametrize("path, kind", ALL)
def test_bad_release_after_the_switch(web, path, kind):
    """It is taken back, when the disk lets us."""
    live = web.state()["current"]
    cursor = web.host.journal_cursor()
    web.close_gate()
    release = publish(web, [toy.gate(), toy.DIE])
    web.wait_phase("restarting", release)
    with fault(web.host, path, kind):
        web.open_gate()
        if path == ROOT and kind != "full":
            wait_said(web, cursor, f"can't put 'current' back to release {live}: .*; it is tried again")
            assert web.host.readlink(f"{ROOT}/current") == f"releases/{release}"
        else:
            web.wait_failed(release)
    web.wait_failed(release)
    web.assert_whole(live)
    wait_for(lambda: saved_phase(web) == "idle", toy.WAIT_SEC, "the state to be saved")
    web.assert_whole(publish(web))


@pytest.mark.parametrize("path, kind", [(ROOT, "out of inodes"), (ROOT, "read-only"), (STATE, "full"), (STATE, "read-only")])
def test_rollback(web, path, kind):
    """Who asks is told; one that was begun is tried again with each poll, no more often, and ends when the disk is well."""
    before = web.state()["current"]
    live = web.release()
    web.assert_whole(live)
    cursor = web.host.journal_cursor()
    with fault(web.host, path, kind):
        refused = web.host.run(["slipway", "rollback", "web"], check=False)
        assert refused.rc != 0 and re.search(SAID, refused.stderr), refused
        assert slipway.current(web.host) == live and web.running() == live
        if path == ROOT:
            assert "tries it again" in refused.stderr
            begun = time.monotonic()
            for _ in range(3):
                again = web.host.journal_cursor()
                wait_said(web, again, "goes on with the rollback")
            tried = web.host.journal("slipwayd.service", f"--after-cursor={cursor}").count("goes on with the rollback")
            # polls come each second, or a fifth sooner
            assert tried <= (time.monotonic() - begun) / 0.8 + 3
            wait_said(web, cursor, f"can't switch 'current'.*")
            assert web.running() == live
    if path == STATE:
        web.host.run(["slipway", "rollback", "web"])
    web.assert_whole(before)
    assert web.state()["pinned"]["release"] == before
    web.host.run(["slipway", "resume", "web"])
    web.assert_whole(live)
