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
import slipway
import toy
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


@pytest.fixture(scope="module")
def web(make_module_hosts):
    """Release r1 is live; root, state and spool lie on small file systems of their own."""
    [host] = make_module_hosts(1)
    for path in (ROOT, STATE, CACHE):
        host.mount_small(path, SMALL_BYTES, SMALL_INODES)
    host.run(["chown", "slipway:", CACHE])
    web = toy.Toy(host, toy.local_store(host))
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


def wait_said(web, cursor, pattern):
    return web.host.wait_journal(pattern, unit="slipwayd.service", after=cursor)


def saved_phase(web):
    return json.loads(web.host.read(f"{STATE}/web.json"))["phase"]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("path", [ROOT, STATE, CACHE])
def test_before_it_begins(web, path, kind):
    live, before = web.state()["current"], processes(web)
    cursor = web.host.journal_cursor()
    with fault(web.host, path, kind):
        release = web.release()
        wait_said(web, cursor, SAID)
        assert web.host.readlink(f"{ROOT}/current") == f"releases/{live}"
        assert web.running() == live and processes(web) == before
    web.host.run(["slipway", "resume", "web"])  # at once, without the back-off
    web.assert_whole(release)
    assert processes(web)[1] == before[1]


@pytest.mark.parametrize("kind", ["full", "out of inodes", "read-only"])
def test_while_it_is_fetched(host, s3, bucket, s3_proxy, kind):
    """There was room for it, and then somebody else filled the disk."""
    host.mount_small(ROOT, SMALL_BYTES, SMALL_INODES)
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.assert_whole("r1")
    before, cursor = processes(web), host.journal_cursor()
    gate = faults.Gate()
    s3_proxy.fault(r"/r2/artifact", gate)
    web.release(more=[formats.Entry("noise", content=random.Random(1).randbytes(1 << 20))])
    gate.wait_held(toy.WAIT_SEC)
    with fault(host, ROOT, kind):
        gate.open()
        wait_said(web, cursor, r"in the new release: (No space left on device|Read-only file system)")
        assert web.running() == "r1" and processes(web) == before
    host.run(["slipway", "resume", "web"])
    web.assert_whole("r2")


@pytest.mark.parametrize("path, kind", [(ROOT, "out of inodes"), (ROOT, "read-only"), (STATE, "full")])
def test_at_the_switch(web, path, kind):
    """It is on disk already, and goes live by hand."""
    live, before = web.state()["current"], processes(web)
    web.host.run(["slipway", "hold", "web"])
    release = web.release()
    web.host.run(["slipway", "stage", "web"])
    web.wait(lambda s: s["phase"] == "idle" and s.get("staged", {}).get("release") == release, f"{release} to be staged")
    with fault(web.host, path, kind):
        done = web.host.run(["slipway", "activate", "web"], check=False)
        assert done.rc != 0 and re.search(SAID, done.stderr), done
        assert web.running() == live and processes(web) == before
    web.host.run(["slipway", "activate", "web"])
    web.assert_whole(release)
    web.host.run(["slipway", "resume", "web"])


@pytest.mark.parametrize("path, kind", [(ROOT, "full"), (ROOT, "read-only"), (STATE, "full"), (STATE, "read-only")])
def test_good_release_after_the_switch(web, path, kind):
    """It goes live; what could not be saved is saved when that is possible."""
    web.close_gate()
    release = web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", release)
    with fault(web.host, path, kind):
        web.open_gate()
        web.wait_live(release)
    wait_for(lambda: saved_phase(web) == "idle", toy.WAIT_SEC, "the state to be saved")
    web.assert_whole(release)


@pytest.mark.parametrize("path, kind", [(ROOT, "out of inodes"), (ROOT, "read-only"), (STATE, "full")])
def test_bad_release_after_the_switch(web, path, kind):
    """It is taken back, when the disk lets us."""
    live = web.state()["current"]
    cursor = web.host.journal_cursor()
    web.close_gate()
    release = web.release([toy.gate(), toy.DIE])
    web.wait_phase("restarting", release)
    with fault(web.host, path, kind):
        web.open_gate()
        if path == ROOT:
            wait_said(web, cursor, f"can't put 'current' back to release {live}: .*; it is tried again")
            assert web.host.readlink(f"{ROOT}/current") == f"releases/{release}"
        else:
            web.wait_failed(release)
    web.wait_failed(release)
    web.assert_whole(live)
    wait_for(lambda: saved_phase(web) == "idle", toy.WAIT_SEC, "the state to be saved")
    web.assert_whole(web.release())


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
