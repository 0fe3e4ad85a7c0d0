"""slipwayd ended by SIGTERM and hosts rebooted in each phase of a deployment: it takes no time, and the next start goes on."""

import time

import pytest

import slipway
import toy
from test_confirm import hold_off, make_control
from test_hooks import hook_units
from waiting import wait_for

STOP_MAX_SEC = 2


def stop(host):
    """Ends slipwayd; what is bounded is that it waits for nothing."""
    begun = time.monotonic()
    host.stop_unit("slipwayd.service")
    took_sec = time.monotonic() - begun
    print(f"systemctl stop slipwayd took {took_sec:.3f} s")
    assert took_sec < STOP_MAX_SEC
    assert host.unit("slipwayd.service", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}


# SIGTERM while fetching: test_crash.py, test_stopped_in_no_time

def test_while_restarting(web):
    """As often as it may be: planned stops are no failed attempts."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    for _ in range(4):
        stop(web.host)
        web.host.start_unit("slipwayd.service")
        web.wait_phase("restarting", "r2")
    web.open_gate()
    web.assert_whole("r2")


def test_while_baking(web):
    host = web.host
    web.release(bake="2s")
    web.wait_phase("baking", "r2")
    pid = host.unit(web.unit, "MainPID")
    stop(host)
    assert web.running() == "r2"
    host.start_unit("slipwayd.service")
    web.assert_whole("r2")
    assert host.unit(web.unit, "MainPID") == pid


def test_while_waiting(web):
    """For an application that holds updates off."""
    make_control(web)
    with hold_off(web):
        web.release()
        web.wait_phase("waiting", "r2")
        stop(web.host)
        assert web.running() == "r1" and slipway.current(web.host) == "r1"
        web.host.start_unit("slipwayd.service")
        web.wait_phase("waiting", "r2")
    web.assert_whole("r2")


def test_while_confirming(web):
    """What is left of the time goes on meanwhile, and the release need not come up again."""
    web.release(health={"confirm": "5min"})
    until = web.wait_phase("confirming", "r2")["pending"]["confirm_until_ms"]
    pid = web.host.unit(web.unit, "MainPID")
    stop(web.host)
    assert web.running() == "r2"
    web.host.start_unit("slipwayd.service")
    assert web.wait_phase("confirming", "r2")["pending"]["confirm_until_ms"] == until
    web.host.run(["slipway", "confirm", "web"])
    web.assert_whole("r2")
    assert web.host.unit(web.unit, "MainPID") == pid


def test_while_finishing(host):
    """The post hook that runs is ended, and runs again."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    hook = f"echo begun >>/run/hook; {toy.gate()}; echo done >>/run/hook"
    web.release(also={"hooks": {"post": [{"command": ["/bin/sh", "-c", hook], "user": "root"}]}})

    def wait_begun(n):
        wait_for(lambda: host.exists("/run/hook") and host.read("/run/hook").split() == ["begun"] * n, toy.WAIT_SEC,
                 f"the hook to begin {n} times")
    wait_begun(1)
    web.wait_phase("finishing", "r2")
    stop(host)
    assert web.running() == "r2" and not hook_units(host)
    host.start_unit("slipwayd.service")
    wait_begun(2)
    web.open_gate()
    web.assert_whole("r2")
    assert host.read("/run/hook").split() == ["begun", "begun", "done"]


def test_while_reverting(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release([toy.gate(), *toy.GOOD])
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release(toy.CRASHING)
    web.wait_phase("reverting", "r2")
    stop(host)
    host.start_unit("slipwayd.service")
    web.open_gate()
    web.wait_failed("r2")
    web.assert_whole("r1")


def test_during_a_rollback(host):
    """The command is told that slipwayd went, and the rollback goes on at the next start."""
    web = toy.Toy(host, toy.local_store(host))
    web.release([toy.gate(), *toy.GOOD])
    toy.start([web])
    web.assert_whole("r1")
    web.assert_whole(web.release())
    web.close_gate()
    with host.popen(["slipway", "rollback", "web"]) as asked:
        web.wait_phase("restarting", "r1")
        stop(host)
        assert asked.wait(toy.WAIT_SEC) != 0
    host.start_unit("slipwayd.service")
    web.open_gate()
    web.assert_whole("r1")
    assert web.state()["pinned"]["release"] == "r1"


@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_reboot_while_baking(web, bad):
    """An orderly one: the bake begins anew with the unit's start at boot, and a release that does not survive it goes back."""
    host = web.host
    host.write(f"/etc/systemd/system/{web.unit}.d/enable.conf", "[Install]\nWantedBy=multi-user.target\n")
    host.run(["systemctl", "enable", "--quiet", web.unit, "slipwayd.service"])
    host.run(["touch", "/var/tmp/up"])
    web.release([toy.READY, f"[ -e /var/tmp/up ] || {toy.DIE}", toy.RUN], bake="5min" if bad else "2s")
    web.wait_phase("baking", "r2")
    if bad:
        host.run(["rm", "/var/tmp/up"])
    host.shut_down()
    assert (host.work / "srv/web/current").readlink().name == "r2"
    host.boot()
    if bad:
        web.wait_failed("r2")
    web.assert_whole("r1" if bad else "r2")
    wait_for(lambda: host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0", toy.WAIT_SEC, "no crash of slipwayd")
