"""slipwayd, its children and whole hosts killed at every stage of a deployment: `current` is the old release or the new one,
whole, its unit runs, and in the end all is as if nothing had happened."""

import time

import pytest

import fault_proxy as faults
import formats
import slipway
import toy
from waiting import wait_for

HELD_SEC = 30
STOP_MAX_SEC = 2


@pytest.fixture
def slow_web(s3, bucket, s3_proxy, host):
    """Release r1 is live, by way of the fault proxy."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.assert_whole("r1")
    return web


def main_pid(host):
    return int(host.unit("slipwayd.service", "MainPID")["MainPID"])


def kill_agent(host):
    """kill -9, and waits until systemd has started another one that answers."""
    host.write("/etc/systemd/system/slipwayd.service.d/at-once.conf", "[Service]\nRestartSec=1ms\n")
    host.run(["systemctl", "daemon-reload"])
    before = host.unit("slipwayd.service", "NRestarts")
    host.run(["kill", "-9", main_pid(host)])
    wait_for(lambda: host.unit("slipwayd.service", "NRestarts") != before, HELD_SEC, "systemd to restart slipwayd")
    host.run(["systemctl", "start", "slipwayd.service"])


def child_pid(host, name):
    found = host.run(["pgrep", "-x", name[:15]], check=False).stdout.split()
    return int(found[0]) if found else None


def n_begun(host, release):
    return host.journal("slipwayd.service").count(f"begins: release {release}")


# -- slipwayd

def test_killed_while_fetching(slow_web, s3_proxy):
    web = slow_web
    gate = faults.Gate()
    s3_proxy.fault(r"/r2/artifact", gate)
    web.release()
    gate.wait_held(HELD_SEC)
    web.wait_phase("fetching", "r2")
    web.host.run(["kill", "-9", main_pid(web.host)])
    assert slipway.current(web.host) == "r1" and web.running() == "r1"
    wait_for(lambda: not child_pid(web.host, "slipway-fetch") and not child_pid(web.host, "slipway-unpack"), HELD_SEC,
             "the children to end with slipwayd")
    web.host.run(["systemctl", "start", "slipwayd.service"])
    gate.open()
    web.assert_whole("r2")


def test_killed_while_a_unit_starts(web):
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    kill_agent(web.host)
    web.open_gate()
    web.assert_whole("r2")


def test_killed_while_baking(web):
    web.release(bake="3s")
    web.wait_phase("baking", "r2")
    pid = web.host.unit(web.unit, "MainPID")
    kill_agent(web.host)
    web.assert_whole("r2")
    # The unit is watched further, not started again.
    assert web.host.unit(web.unit, "MainPID") == pid


def test_unit_dies_while_nobody_looks(web):
    """slipwayd is dead when the new release dies during its bake: it is taken back all the same."""
    web.close_gate()
    web.release([toy.READY, toy.gate(), toy.DIE], bake="5min")
    web.wait_phase("baking", "r2")
    web.host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    web.open_gate()
    wait_for(lambda: web.host.unit(web.unit, "ActiveState")["ActiveState"] == "failed", HELD_SEC, "the unit to fail")
    web.host.run(["systemctl", "start", "slipwayd.service"])
    state = web.wait_failed("r2")
    web.assert_whole("r1")
    assert "web.service" in state["failed"]["reason"]


def test_killed_while_reverting(host):
    """The old release is held at its start while it comes back."""
    web = toy.Toy(host, toy.local_store(host))
    web.release([toy.gate(), *toy.GOOD])
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release(toy.CRASHING)
    web.wait_phase("reverting", "r2")
    kill_agent(host)
    assert slipway.current(host) == "r1"
    web.open_gate()
    web.wait_failed("r2")
    web.assert_whole("r1")
    assert n_begun(host, "r2") == 1
    web.assert_whole(web.release())


def test_what_always_crashes_the_agent_is_given_up(web):
    """A deployment that slipwayd does not live through is undone after some attempts."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    for _ in range(5):
        kill_agent(web.host)
        if web.state()["phase"] == "idle":
            break
    web.wait_failed("r2")
    web.assert_whole("r1")
    assert "went down" in web.state()["failed"]["reason"]


def test_stopped_in_no_time(slow_web, s3_proxy):
    web = slow_web
    stall = faults.StallAfter(20)
    rule = s3_proxy.fault(r"/r2/artifact", stall)
    web.release()
    wait_for(lambda: rule.hits, HELD_SEC, "the artifact to be asked for")
    begun = time.monotonic()
    web.host.stop_unit("slipwayd.service")
    took_sec = time.monotonic() - begun
    print(f"systemctl stop slipwayd took {took_sec:.3f} s")
    assert took_sec < STOP_MAX_SEC
    assert web.host.unit("slipwayd.service", "Result")["Result"] == "success"
    assert not child_pid(web.host, "slipway-fetch") and not child_pid(web.host, "slipway-unpack")
    assert web.running() == "r1"
    s3_proxy.clear()
    web.host.start_unit("slipwayd.service")
    web.assert_whole("r2")


# -- the host

def enable(web):
    web.host.write(f"/etc/systemd/system/{web.unit}.d/enable.conf", "[Install]\nWantedBy=multi-user.target\n")
    web.host.run(["systemctl", "enable", "--quiet", web.unit, "slipwayd.service"])


def test_power_loss_while_baking(web):
    enable(web)
    web.release(bake="2s")
    web.wait_phase("baking", "r2")
    web.host.crash()
    assert (web.host.work / "srv/web/current").readlink().name == "r2"
    web.host.boot()
    web.assert_whole("r2")


def test_power_loss_before_a_bad_release_is_found_out(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    enable(web)
    web.close_gate()
    # up at first, dead at its second start, which is that of the boot
    web.release([toy.READY, f"[ -p /var/tmp/web.gate ] || {toy.DIE}", toy.RUN], bake="5min")
    web.wait_phase("baking", "r2")
    host.run(["rm", "/var/tmp/web.gate"])
    host.crash()
    host.boot()
    web.wait_failed("r2")
    web.assert_whole("r1")


# -- the children

def test_fetch_is_killed(slow_web, s3_proxy):
    web = slow_web
    stall = faults.StallAfter(20)
    rule = s3_proxy.fault(r"/r2/artifact", stall, times=1)
    web.release()
    wait_for(lambda: rule.hits, HELD_SEC, "the artifact to be asked for")
    agent, fetch = main_pid(web.host), child_pid(web.host, "slipway-fetch")
    web.host.run(["kill", "-9", fetch])
    web.host.wait_journal(r"slipway-fetch.*(signal 9|killed|KILL)", unit="slipwayd.service")
    web.assert_whole("r2")
    assert main_pid(web.host) == agent and child_pid(web.host, "slipway-fetch") not in (None, fetch)


def test_unpack_is_killed(slow_web, s3_proxy):
    web = slow_web
    stall = faults.StallAfter(20)
    rule = s3_proxy.fault(r"/r2/artifact", stall, times=1)
    web.release()
    wait_for(lambda: rule.hits, HELD_SEC, "the artifact to be asked for")
    agent = main_pid(web.host)
    unpack = wait_for(lambda: child_pid(web.host, "slipway-unpack"), HELD_SEC, "slipway-unpack to run")
    web.host.run(["kill", "-9", unpack])
    web.host.wait_journal(r"slipway-unpack.*(signal 9|killed|KILL)", unit="slipwayd.service")
    stall.release()
    web.assert_whole("r2")
    assert main_pid(web.host) == agent
