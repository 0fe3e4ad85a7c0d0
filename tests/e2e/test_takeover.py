"""Slipwayd with a child that was taken over: another program in its place says by its socket what it likes
(tests/breakout/takeover.h). Nothing that was not signed goes live, slipwayd answers, stays small, and with the real child back it
deploys."""

import contextlib
import errno
import itertools
import os
import random
import time

import pytest

import breakout
import formats
import slipway
import toy
from conftest import SUMMARY
from waiting import wait_for

ORDERS, MANIFESTS = "/run/takeover", "/run/takeover.manifests"
ANSWER_SEC = 10           # for `slipway status`, on a busy machine
GROWTH_BYTES = 8 << 20
N_FDS_MORE = 4
FLOOD_SHARE_MAX = 0.25    # of a core; without end it would take all of one
N_FLOOD, N_HAVOC = 60_000, 10_000
N_KINDS_OF_DEATH = 5
seeds = itertools.count(random.SystemRandom().randrange(1 << 40))


@pytest.fixture(scope="module")
def web(make_module_hosts):
    [host] = make_module_hosts(1)
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web], ssm={"enabled": True}, instance="i-0123456789abcdef0", region="eu-central-1")
    web.assert_whole("r1")
    return web


@pytest.fixture(autouse=True)
def real_children(web, install):
    """A test begins and ends with them; back-offs end with slipwayd."""
    yield
    web.host.run(["rm", "-rf", ORDERS, MANIFESTS, "/var/lib/slipway-fetch/takeover"])
    breakout.put_back(web.host, install)
    web.host.run(["systemctl", "restart", "slipwayd.service"])


# -- what is looked at

def agent(host):
    return host.unit("slipwayd.service", "MainPID", "NRestarts", "ActiveState")


def live(web):
    return slipway.current(web.host), web.host.unit(web.unit, "MainPID", "NRestarts", "ActiveState")


def memory_bytes(host, pid):
    fields = dict(line.split(":", 1) for line in host.read(f"/proc/{pid}/status").splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def n_fds(host, pid):
    return len(host.listdir(f"/proc/{pid}/fd"))


def cpu_sec(host, pid):
    fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_answers(host):
    host.run(["slipway", "status", "--json"], timeout_sec=ANSWER_SEC)


def poll_soon(host):
    host.run(["timeout", "1", "slipway", "poll"], check=False)


def take_over(host, child, what, rounds=0):
    """The program's place and orders; who runs goes on."""
    seed = next(seeds)
    print(f"{what}: seed {seed}")
    breakout.put(host, breakout.test_programs(), child, child.replace("slipway-", "takeover-"))
    host.write(ORDERS, f"{what} {seed} {rounds}\n")


@contextlib.contextmanager
def fetch_taken_over(web, install, what, rounds=0):
    """In the block slipway-fetch is another program. After it, nothing has changed, and the real one deploys."""
    host = web.host
    untouched, cursor = live(web), host.journal_cursor()
    take_over(host, "slipway-fetch", what, rounds)
    host.run(["systemctl", "restart", "slipwayd.service"])
    before = agent(host)
    pid = before["MainPID"]
    size, fds = memory_bytes(host, pid), n_fds(host, pid)
    host.wait_journal(f"takeover {what} begins", after=cursor)
    yield cursor
    assert_answers(host)
    assert (agent(host), live(web)) == (before, untouched)
    assert memory_bytes(host, pid) <= size + GROWTH_BYTES

    host.run(["rm", ORDERS])
    breakout.put_back(host, install)
    breakout.kill(host, "slipway-fetch")
    name = web.release()
    wait_for(lambda: poll_soon(host) or slipway.current(host) == name, toy.WAIT_SEC, f"{name} to be live")
    web.assert_whole(name)
    assert agent(host) == before
    assert memory_bytes(host, pid) <= size + GROWTH_BYTES
    assert n_fds(host, pid) <= fds + N_FDS_MORE


def write_manifests(web):
    """What is never to be taken, and at the end what would be, if only its objects came. Returns the words of the refusals."""
    def release(n, **options):
        return formats.make_release(toy.entries(f"r{n}", toy.GOOD), f"r{n}", serial=n, deployment=n, **options)
    web.n_releases += 1
    n = web.n_releases
    old, new, other = release(1), release(n), release(n, app="api")
    signed = [(old, [web.key], "serial"), (new, [formats.Key.new()], "signature"), (new, [], "signature"),
              (other, [web.key], "is for app api"), (new, [web.key], "not the one that was signed|can't fetch the index")]
    for i, (manifest, keys, _) in enumerate(signed):
        web.host.write(f"{MANIFESTS}/{i}", formats.envelope(formats.MANIFEST_TYPE, manifest.payload, keys))
    return [words for _, _, words in signed]


# -- slipway-fetch

def test_any_messages(web, install):
    """Of every kind, at any time, with any numbers, words and files; orders of far away among them."""
    def is_done():
        """Meanwhile it is asked again and again, or it could not say much that is waited for."""
        for verb in ("poll", "deploy"):
            web.host.run(["timeout", "0.5", "slipway", verb, "web"], check=False)
        assert_answers(web.host)
        return ("havoc", "is done") in breakout.said(web.host, "takeover", after=cursor)
    write_manifests(web)
    with fetch_taken_over(web, install, "havoc", N_HAVOC) as cursor:
        wait_for(is_done, toy.WAIT_SEC, "all of it to be said")


def test_messages_without_end(web, install, request):
    """What is sent as fast as it goes is read slowly."""
    with fetch_taken_over(web, install, "flood", N_FLOOD) as cursor:
        pid = agent(web.host)["MainPID"]
        begun, used = time.monotonic(), cpu_sec(web.host, pid)
        # or nothing would be measured
        assert ("flood", "is done") not in breakout.said(web.host, "takeover", after=cursor)
        assert_answers(web.host)
        web.host.wait_journal("takeover flood is done", after=cursor, timeout_sec=60)
        took = time.monotonic() - begun
        share = (cpu_sec(web.host, pid) - used) / took
        request.config.stash[SUMMARY].append(f"a child that talks without end: {N_FLOOD / took:.0f} messages/s are read, which "
                                             f"takes {share:.1%} of a core")
        assert share <= FLOOD_SHARE_MAX, f"slipwayd took {share:.0%} of a core"


@pytest.mark.parametrize("how", ["writing", "reading"])
def test_half_of_the_socket(web, install, how):
    """One that can't be asked, or does not answer any more, is ended."""
    with fetch_taken_over(web, install, f"close-{how}") as cursor:
        poll_soon(web.host)
        web.host.wait_journal(r"slipway-fetch ended \(signal 9", after=cursor)


def test_deaf(web, install):
    with fetch_taken_over(web, install, "deaf"):
        poll_soon(web.host)


def test_stopped(web, install):
    with fetch_taken_over(web, install, "stop"):
        pid = breakout.pid_of(web.host, "slipway-fetch")
        wait_for(lambda: "T (stopped)" in web.host.read(f"/proc/{pid}/status"), toy.WAIT_SEC, "it to stand still")
        poll_soon(web.host)


def test_one_death_after_the_other(web, install):
    """Descriptors that are no files are its end; it is started again, ever later."""
    def died():
        poll_soon(web.host)
        return ("die", f"sends {N_KINDS_OF_DEATH}") in breakout.said(web.host, "takeover", after=cursor)
    with fetch_taken_over(web, install, "die") as cursor:
        wait_for(died, toy.WAIT_SEC, "all kinds of death")
        web.host.wait_journal("it may start again in 1600 ms", after=cursor)


def test_lies(web, install):
    """Old manifests, others' and unsigned ones, and at last a good one, but with other bytes than were published."""
    refusals = write_manifests(web)
    with fetch_taken_over(web, install, "lie") as cursor:
        for words in refusals:
            poll_soon(web.host)
            web.host.wait_journal(f"(?i){words}", unit="slipwayd.service", after=cursor)
        state = web.state()
        assert not [e for e in state["history"] if e["release"] == f"r{web.n_releases}" and e["result"] != "failed"]


# -- slipway-unpack

@contextlib.contextmanager
def unpack_taken_over(web, install, what):
    """In the block slipway-unpack is another program, and a release is published, whose name it gets."""
    before = agent(web.host)
    take_over(web.host, "slipway-unpack", what)
    name = web.release()
    poll_soon(web.host)
    yield name
    web.host.run(["rm", ORDERS])
    breakout.put_back(web.host, install)
    assert agent(web.host) == before
    web.assert_whole(web.release())


@pytest.mark.parametrize("what, words", [
    ("early", "can't give the unpacked release its name: No such file"),
    ("link", "can't give the unpacked release its name: Not a directory"),
    ("twice", "Input/output error"),
    ("needs", "needs 17592186044416 MiB"),
    ("want-more", "wants parts that the artifact does not have"),
    ("want-odd", "wants parts that the artifact does not have"),
    ("want-nothing", "did not say what it wants"),
])
def test_false_success(web, install, what, words):
    """Said too early, of something that is no tree, after a failure, with numbers that no disk has; and wishes for what is not
    there."""
    untouched = live(web)
    with unpack_taken_over(web, install, what) as name:
        def reason():
            return next((e["reason"] for e in web.state()["history"] if (e["release"], e["result"]) == (name, "failed")), None)
        told = wait_for(reason, toy.WAIT_SEC, f"{name} to fail")
        assert words in told
        assert live(web) == untouched
        assert name not in web.host.listdir("/srv/web/releases")
    history = web.state()["history"]
    web.host.run(["systemctl", "restart", "slipwayd.service"])
    assert web.state()["history"] == history


def test_another_tree(web, install):
    """What remains (agent/THREATS.md): the tree is what slipway-unpack makes of it. But nobody writes to it any more when it gets
    its name, it has neither set-uid bits nor devices, and `slipway verify` finds what is not signed."""
    with unpack_taken_over(web, install, "plant") as name:
        web.wait_live(name)
        said = dict(line.split() for what, line in breakout.said(web.host, "takeover")
                    if what == "plant" and line.split()[0] in ("setuid", "device"))
        assert said == {"setuid": str(errno.EPERM), "device": str(errno.EPERM)}
        times = web.host.run(["stat", "-c", "%.9Y %.9Z", f"/srv/web/releases/{name}/beat", f"/srv/web/releases/{name}"]).stdout
        (written, _), (_, named) = (line.split() for line in times.splitlines())
        assert float(written) <= float(named)
        verify = web.host.run(["slipway", "verify", "web"], check=False)
        assert verify.rc != 0 and all(word in verify.stdout for word in ("beat", "link", "hard"))
