"""Unit files that come with a release: linked, read again when they change, and gone with it."""

import pytest

import formats
import slipway
import toy
from waiting import wait_for

WAIT_SEC = 30
DIRECTORY = "/etc/systemd/system"

UNIT = """\
[Service]
Type=notify
NotifyAccess=all
Environment=COLOUR={colour}
WorkingDirectory=/srv/web/current
ExecStart=/srv/web/current/run
ExecStop=/bin/sh -c 'echo {colour} >>/var/tmp/stopped'
"""


def unit_file(name, text):
    return formats.Entry(f"systemd/{name}", content=text.encode())


def release(web, files, script=toy.GOOD, *, units=("web.service",), **options):
    """Publishes a release that brings these unit files ({name: text}) and restarts these units."""
    more = [formats.Entry("systemd", "d"), *(unit_file(name, text) for name, text in files.items())]
    also = {"unit_files": [f"systemd/{name}" for name in files],
            "units": [{"name": name, "action": "restart"} for name in units]}
    return web.release(script, units=(), more=more, also=also, **options)


@pytest.fixture
def web(host):
    """The host has no unit of its own, and lets the releases bring theirs."""
    web = toy.Toy(host, toy.local_store(host))
    web.config.update(units=["web*.service"], unit_files=["web*.service"])
    toy.configure([web])
    host.run(["rm", f"{DIRECTORY}/web.service"])
    host.run(["systemctl", "daemon-reload"])
    return web


def start(web):
    web.host.start_unit("slipwayd.service")


def colour(web, unit="web.service"):
    """What the unit's process was started with."""
    pid = web.host.unit(unit, "MainPID")["MainPID"]
    try:
        pairs = web.host.read(f"/proc/{pid}/environ").split("\0") if pid != "0" else []
    except FileNotFoundError:  # it is restarted just now
        return None
    return next((p.partition("=")[2] for p in pairs if p.startswith("COLOUR=")), None)


def n_reloads(host):
    return host.journal(None, "_PID=1").count("Reloading")


def test_they_come_and_change(web):
    """Each release runs by its own unit file, on the way forward, back, and by hand; systemd reads them again when they changed."""
    release(web, {"web.service": UNIT.format(colour="red")})
    start(web)
    web.wait_live("r1")
    assert web.host.readlink(f"{DIRECTORY}/web.service") == "/srv/web/current/systemd/web.service"
    assert (web.running(), colour(web)) == ("r1", "red")
    release(web, {"web.service": UNIT.format(colour="green")})
    web.wait_live("r2")
    assert (web.running(), colour(web)) == ("r2", "green")
    # the same file: nothing to read again
    before = n_reloads(web.host)
    release(web, {"web.service": UNIT.format(colour="green")})
    web.wait_live("r3")
    assert (web.running(), colour(web), n_reloads(web.host)) == ("r3", "green", before)
    release(web, {"web.service": UNIT.format(colour="blue")}, toy.CRASHING)
    web.wait_failed("r4")
    assert (web.running(), colour(web)) == ("r3", "green")
    web.host.run(["slipway", "rollback", "web", "r1"])
    assert (web.running(), colour(web)) == ("r1", "red")
    assert web.host.unit("web.service", "NeedDaemonReload")["NeedDaemonReload"] == "no"


def test_they_go(web):
    """A unit whose file a release does not bring any more is stopped by its own ExecStop=, and its link goes; when the
    release is taken back, both come back."""
    files = {"web.service": UNIT.format(colour="red"), "web-more.service": UNIT.format(colour="more")}
    release(web, files, units=("web.service", "web-more.service"))
    start(web)
    web.wait_live("r1")
    assert colour(web, "web-more.service") == "more"
    release(web, {"web.service": UNIT.format(colour="red")}, toy.CRASHING)
    web.wait_failed("r2")
    assert web.host.read("/var/tmp/stopped").splitlines().count("more") >= 1
    assert colour(web, "web-more.service") == "more"
    assert web.host.readlink(f"{DIRECTORY}/web-more.service")
    release(web, {"web.service": UNIT.format(colour="red")})
    web.wait_live("r3")
    assert not web.host.exists(f"{DIRECTORY}/web-more.service")
    assert web.host.unit("web-more.service", "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
    web.host.run(["slipway", "rollback", "web", "r1"])
    assert colour(web, "web-more.service") == "more"


def test_first_release_is_taken_back(web):
    """Nothing of it stays in systemd's directory."""
    release(web, {"web.service": UNIT.format(colour="red")}, toy.CRASHING)
    start(web)
    web.wait_failed("r1")
    assert not web.host.exists(f"{DIRECTORY}/web.service") and not web.host.exists("/srv/web/current")
    assert web.host.unit("web.service", "LoadState")["LoadState"] == "not-found"


def test_template(web):
    """One file, several instances."""
    units = ("web@1.service", "web@2.service")
    release(web, {"web@.service": UNIT.format(colour="red-%i")}, units=units)
    start(web)
    web.wait_live("r1")
    assert [colour(web, unit) for unit in units] == ["red-1", "red-2"]
    release(web, {"web@.service": UNIT.format(colour="green-%i")}, units=units[:1])
    web.wait_live("r2")
    assert [colour(web, unit) for unit in units] == ["green-1", "red-2"]


def test_killed_before_systemd_knows(web):
    """slipwayd dies after the switch: whether the links were made or not, the release comes up by its own unit file."""
    release(web, {"web.service": UNIT.format(colour="red")})
    start(web)
    web.wait_live("r1")
    web.close_gate()
    release(web, {"web.service": UNIT.format(colour="green"), "web-more.service": UNIT.format(colour="more")},
            [toy.gate(), *toy.GOOD], units=("web.service", "web-more.service"))
    web.wait_phase("restarting", "r2")
    web.host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    web.host.run(["rm", "-f", f"{DIRECTORY}/web-more.service"])
    web.host.start_unit("slipwayd.service")
    web.open_gate()
    web.wait_live("r2")
    assert (colour(web), colour(web, "web-more.service")) == ("green", "more")


def test_not_allowed(host):
    """The host's configuration decides, and by default it allows none."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    release(web, {"web.service": UNIT.format(colour="red")})
    wait_for(lambda: '"unit_files" of app web' in web.status()["poll"]["text"], WAIT_SEC, "it to be refused")
    web.assert_whole("r1")


def test_the_host_has_its_own(web):
    """What the host has is not touched, and the deployment goes on when it is gone."""
    text = "[Service]\nExecStart=/bin/true\n"
    web.host.write_unit("web.service", text)
    release(web, {"web.service": UNIT.format(colour="red")})
    start(web)
    wait_for(lambda: f"the host has {DIRECTORY}/web.service already" in web.status()["poll"]["text"], WAIT_SEC, "it to be said")
    assert web.host.read(f"{DIRECTORY}/web.service") == text and not web.host.exists("/srv/web/current")
    web.host.run(["rm", f"{DIRECTORY}/web.service"])
    web.wait_live("r1")
    assert colour(web) == "red"


@pytest.mark.parametrize("case", ["missing", "directory"])
def test_no_such_file(web, case):
    """A release that names what it does not have is refused before the switch, for good."""
    more = [formats.Entry("systemd", "d"), *([formats.Entry("systemd/web.service", "d")] if case == "directory" else [])]
    web.release(units=(), more=more, also={"unit_files": ["systemd/web.service"]})
    start(web)
    state = web.wait_failed("r1")
    assert "systemd/web.service, which is no file" in state["failed"]["reason"]
    assert slipway.current(web.host) is None


SLOW_GENERATOR = f"""\
#!/bin/sh
{toy.gate()}
"""


def test_bus_goes_while_systemd_reads(web):
    """The answer to daemon-reload is lost with the connection: it is asked for again, and the release goes live."""
    release(web, {"web.service": UNIT.format(colour="red")})
    start(web)
    web.wait_live("r1")
    bus = web.host.unit("dbus.service", "MainPID")["MainPID"]
    web.host.write("/etc/systemd/system-generators/slow", SLOW_GENERATOR, mode=0o755)
    web.close_gate()
    release(web, {"web.service": UNIT.format(colour="green")})
    wait_for(lambda: web.host.run(["pgrep", "-f", "system-generators/slow"], check=False).stdout, WAIT_SEC, "systemd to read")
    cursor = web.host.journal_cursor()
    web.host.run(["kill", "-KILL", bus])
    web.host.wait_journal("D-Bus connection is lost", unit="slipwayd.service", after=cursor)
    web.open_gate()
    wait_for(lambda: slipway.current(web.host) == "r2" and colour(web) == "green", WAIT_SEC, "r2 to run by its unit file")
    web.wait_live("r2")
