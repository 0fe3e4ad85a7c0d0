"""D-Bus and systemd that hang, go and come back under slipwayd: deployments go on, polls do not stop."""

import json
import signal
import time

import pytest

import slipway
import toy
from waiting import wait_for

HUNG_ANSWER_MAX_SEC = 10
STOP_MAX_SEC = 2


@pytest.fixture(scope="module")
def shared(make_module_hosts):
    """Some release is live; the tests of this module add theirs."""
    web = toy.Toy(make_module_hosts(1)[0], None)
    web.store = toy.local_store(web.host)
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    return web


@pytest.fixture
def web(shared):
    """The same; slipwayd is to be another one after no test."""
    before = main_pid(shared.host)
    yield shared
    assert main_pid(shared.host) == before, shared.host.journal("slipwayd.service")


def main_pid(host, unit="slipwayd.service"):
    return host.unit(unit, "MainPID")["MainPID"]


def restart_dbus(host):
    before = main_pid(host, "dbus.service")
    host.run(["kill", "-9", before])
    wait_for(lambda: main_pid(host, "dbus.service") not in ("0", before), toy.WAIT_SEC, "dbus to be there again")


DISTURBANCES = {
    "dbus": restart_dbus,
    "reexec": lambda host: host.run(["systemctl", "daemon-reexec"]),
    "reload": lambda host: host.run(["systemctl", "daemon-reload"]),
}


def counted(script):
    """The script, which leaves a line at each start."""
    return ["echo >>/var/tmp/starts", *script]


def n_starts(host):
    return len(host.read("/var/tmp/starts"))


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_while_a_unit_starts(web, disturb):
    host = web.host
    host.run(["rm", "-f", "/var/tmp/starts"])
    web.close_gate()
    release = web.release(counted([toy.gate(), *toy.GOOD]))
    web.wait_phase("restarting", release)
    wait_for(lambda: host.exists("/var/tmp/starts"), toy.WAIT_SEC, "the release to start")
    disturb(host)
    web.open_gate()
    web.assert_whole(release)
    assert n_starts(host) == 1


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_while_baking(web, disturb):
    release = web.release(bake="2s")
    web.wait_phase("baking", release)
    pid = main_pid(web.host, web.unit)
    disturb(web.host)
    web.assert_whole(release)
    assert main_pid(web.host, web.unit) == pid


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_release_that_dies_meanwhile(web, disturb):
    """What happens while nobody listens is found out afterwards."""
    live = web.state()["current"]
    web.close_gate()
    release = web.release([toy.READY, toy.gate(), toy.DIE], bake="5min")
    web.wait_phase("baking", release)
    disturb(web.host)
    web.open_gate()
    state = web.wait_failed(release)
    web.assert_whole(live)
    assert "web.service" in state["failed"]["reason"]


def test_dbus_hangs(make_hosts):
    """Polls go on, and what needs no units goes live; the rest waits for the bus, and is not switched before."""
    [host] = make_hosts(1)
    store = toy.local_store(host)
    web, files, late = toy.Toy(host, store), toy.Toy(host, store, app="files"), toy.Toy(host, store, app="late")
    web.release()
    late.release()
    toy.start([web, files, late])
    web.assert_whole("r1")
    late.wait_live("r1")
    release = web.release(bake="1s")
    web.wait_phase("baking", release)
    dbus = main_pid(host, "dbus.service")
    host.run(["kill", f"-{int(signal.SIGSTOP)}", dbus])

    late.release()
    files.release(units=())
    wait_for(lambda: slipway.current(host, files.root) == "r1", toy.WAIT_SEC, "files to go live")
    begun, agent = time.monotonic(), main_pid(host)
    told = host.run(["slipway", "status"])
    assert "does not answer" in told.stderr and "r2" in told.stdout
    refused = host.run(["slipway", "rollback", "web"], check=False)
    assert refused.rc != 0 and "D-Bus" in refused.stderr and slipway.current(host) == "r2", refused
    assert time.monotonic() - begun < HUNG_ANSWER_MAX_SEC
    # it has the lock, and is well
    assert main_pid(host) == agent and web.state()["phase"] == "baking"

    begun = time.monotonic()
    host.stop_unit("slipwayd.service")
    assert time.monotonic() - begun < STOP_MAX_SEC
    host.start_unit("slipwayd.service")
    files.release(units=())
    wait_for(lambda: slipway.current(host, files.root) == "r2", toy.WAIT_SEC, "files to go live")
    wait_for(lambda: host.exists("/srv/late/releases/r2/name"), toy.WAIT_SEC, "late to be unpacked")
    assert slipway.current(host, late.root) == "r1"
    host.run(["kill", f"-{int(signal.SIGCONT)}", dbus])
    web.assert_whole("r2")
    late.wait_live("r2")
    assert host.run(["slipway", "poll", "web"]).rc == 0


def test_dbus_hangs_before_the_switch(make_hosts):
    """Also where a crash came right before it: nothing is switched that can't be restarted."""
    [host] = make_hosts(1)
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release(also={"hooks": {"pre": [{"command": ["/bin/sh", "-c", toy.gate()]}]}})
    web.wait_phase("preparing", "r2")
    host.stop_unit("slipwayd.service")
    state = json.loads(host.read("/var/lib/slipway/web.json"))
    host.write("/var/lib/slipway/web.json", json.dumps({**state, "phase": "switching"}), mode=0o600)
    host.run(["rm", "/var/tmp/web.gate"])
    dbus = main_pid(host, "dbus.service")
    host.run(["kill", f"-{int(signal.SIGSTOP)}", dbus])
    cursor = host.journal_cursor()
    host.start_unit("slipwayd.service")
    found = host.wait_journal("release r2\\) is under way: ([a-z]+)", unit="slipwayd.service", after=cursor)
    assert found.group(1) == "switching"
    assert slipway.current(host) == "r1" and web.running() == "r1"
    host.run(["kill", f"-{int(signal.SIGCONT)}", dbus])
    web.assert_whole("r2")


def test_no_bus_at_the_start_and_no_store(make_hosts):
    """What was cut off is taken up once there is a bus, whatever the store says."""
    [host] = make_hosts(1)
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    host.stop_unit("slipwayd.service")
    host.run(["systemctl", "mask", "--runtime", "--now", "dbus.socket", "dbus.service"])
    host.run(["mv", "/srv/store", "/srv/away"])
    host.start_unit("slipwayd.service")
    host.wait_journal("can't take up what was left: .*no connection to systemd", unit="slipwayd.service")
    host.run(["systemctl", "unmask", "--runtime", "dbus.socket", "dbus.service"])
    host.run(["systemctl", "start", "dbus.socket"])
    web.open_gate()
    web.wait_live("r2")
    assert web.running() == "r2"


def test_watchdog(make_hosts):
    """A slipwayd that hangs is ended by systemd and goes on where it was."""
    [host] = make_hosts(1)
    web = toy.Toy(host, toy.local_store(host))
    host.write("/etc/systemd/system/slipwayd.service.d/soon.conf",
               "[Service]\nWatchdogSec=500ms\nTimeoutAbortSec=1s\nRestartSec=1ms\n")
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.release(bake="1s")
    web.wait_phase("baking", "r2")
    before = main_pid(host)
    host.run(["kill", f"-{int(signal.SIGSTOP)}", before])
    host.wait_journal("Watchdog timeout", timeout_sec=toy.WAIT_SEC)
    web.assert_whole("r2")
    assert main_pid(host) != before
