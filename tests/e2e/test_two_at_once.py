"""Two administrators at once, or one and a slipwayd that hangs in the middle: one of them wins, the other is told, and what is live
is whole."""

import contextlib
import signal
import subprocess

import pytest

import slipway
import toy
from waiting import wait_for

BUSY = 5


@pytest.fixture
def web(host):
    """Releases r1, r2 and r3, of which r3 is live."""
    web = toy.Toy(host, toy.local_store(host))
    web.release([toy.gate(), *toy.GOOD])
    toy.start([web])
    web.wait_live("r1")
    for _ in range(2):
        web.wait_live(web.release())
    return web


def at_once(host, *commands):
    """Runs `slipway` as often at the same time; returns [(exit status, what it said on stderr)]."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(host.popen(["slipway", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
                   for command in commands]
        return [(r.wait(toy.WAIT_SEC), text) for r, text in [(r, r.communicate(timeout=toy.WAIT_SEC)[1]) for r in running]]


@pytest.mark.parametrize("agent", [True, False], ids=["with slipwayd", "without"])
def test_two_rollbacks(web, agent):
    host = web.host
    if not agent:
        host.stop_unit("slipwayd.service")
    before = len(web.state()["history"])
    ends = at_once(host, ("rollback", "web", "r1"), ("rollback", "web", "r2"))
    assert 0 in [rc for rc, _ in ends], ends
    # the second one comes after the first, or while it is at work
    for rc, said in ends:
        assert rc in (0, BUSY) and (rc == 0 or "being changed" in said or "way back" in said), ends
    state = web.state()
    done = state["history"][before:]
    assert [e["action"] for e in done] == ["rollback"] * len(done)
    assert len(done) == sum(rc == 0 for rc, _ in ends)
    if not agent:
        host.start_unit("slipwayd.service")
    web.assert_whole(done[-1]["release"])
    assert web.state()["pinned"]["release"] == done[-1]["release"]


def test_rollback_while_another_is_held_up(web):
    """The first one waits for its unit; the second is told so at once, and changes nothing."""
    host = web.host
    web.close_gate()
    with host.popen(["slipway", "rollback", "web", "r1"]) as first:
        web.wait_phase("restarting", "r1")
        [(rc, said)] = at_once(host, ("rollback", "web", "r2"))
        assert rc == BUSY and "on its way back" in said, (rc, said)
        assert slipway.current(host) == "r1"
        web.open_gate()
        assert first.wait(toy.WAIT_SEC) == 0
    web.assert_whole("r1")


def test_rollback_while_another_is_held_up_without_slipwayd(web):
    """The second one ends a service that hangs, but no other command."""
    host = web.host
    web.close_gate()
    host.stop_unit("slipwayd.service")
    with host.popen(["slipway", "rollback", "web", "r1"]) as first:
        web.wait_phase("restarting", "r1")
        [(rc, said)] = at_once(host, ("rollback", "web", "r2"))
        assert rc == BUSY and "is being changed by process" in said, (rc, said)
        assert slipway.current(host) == "r1"
        web.open_gate()
        assert first.wait(toy.WAIT_SEC) == 0
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")


@pytest.mark.parametrize("option", ["--once", "--onc", "--o"])
def test_rollback_while_a_round_is_held_up(web, option):
    """A round ends by itself, and is not what hangs, however it was started."""
    host = web.host
    host.stop_unit("slipwayd.service")
    web.close_gate()
    release = web.release([toy.gate(), *toy.GOOD])
    with host.popen(["/usr/lib/slipway/slipwayd", option]) as slipwayd:
        web.wait_phase("restarting", release)
        [(rc, said)] = at_once(host, ("rollback", "web", "r1"))
        assert rc == BUSY and "is being changed by process" in said, (rc, said)
        web.open_gate()
        assert slipwayd.wait(toy.WAIT_SEC) == 0
    host.start_unit("slipwayd.service")
    web.assert_whole(release)


def test_hold_during_a_bake(web):
    """What is under way comes to its end; the next one waits."""
    host = web.host
    web.release(bake="1s")
    web.wait_phase("baking", "r4")
    host.run(["slipway", "hold", "web", "--reason", "enough"])
    web.assert_whole("r4")
    web.release()
    assert "holds it" in host.run(["slipway", "poll", "web"]).stdout
    web.assert_whole("r4")
    host.run(["slipway", "resume", "web"])
    web.assert_whole("r5")


def test_hold_and_rollback(web):
    host = web.host
    ends = at_once(host, ("hold", "web"), ("rollback", "web", "r1"), ("rollback", "web", "r1"))
    assert ends[1][0] == 0 or ends[2][0] == 0, ends
    web.assert_whole("r1")
    assert host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0"


def test_hung_in_the_middle(web):
    """A slipwayd that hangs while it holds the lock is ended, and the way back is free."""
    host = web.host
    web.release(bake="5min")
    web.wait_phase("baking", "r4")
    pid = host.unit("slipwayd.service", "MainPID")["MainPID"]
    host.run(["kill", f"-{int(signal.SIGSTOP)}", pid])
    assert host.run(["slipway", "rollback", "web"]).rc == 0
    web.assert_whole("r3")
    assert web.state()["pinned"]["release"] == "r3"
    wait_for(lambda: host.unit("slipwayd.service", "MainPID")["MainPID"] not in ("0", pid), toy.WAIT_SEC, "another slipwayd")
    host.start_unit("slipwayd.service")  # waits until it is ready
    assert "by hand" in host.run(["slipway", "poll", "web"]).stdout


def test_masked_in_the_middle(web):
    """slipwayd is stopped and masked in a bake: the state says where it stood, and the way back overrides that."""
    host = web.host
    web.release(bake="5min")
    web.wait_phase("baking", "r4")
    host.stop_unit("slipwayd.service")
    host.run(["systemctl", "mask", "--runtime", "slipwayd.service"])
    assert host.run(["slipway", "rollback", "web"]).rc == 0
    web.assert_whole("r3")
