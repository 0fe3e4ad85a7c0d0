"""Units that don't do as they are told: the reason names the unit, what systemd says of it, and its last words, and the release
before is whole and runs again. And units that do, in the order that was asked for."""

import json
import re

import pytest

import toy
from waiting import wait_for

WAIT_SEC = 30
ORDER = "/run/order"
NOTE = f"""\
#!/bin/sh
echo "$* $(basename "$(readlink /srv/web/current)")" >>{ORDER}
"""

# says what is done to it
NOTED = """\
[Service]
ExecStart=sleep infinity
ExecStartPost=/usr/local/bin/note start %N
ExecReload=/usr/local/bin/note reload %N
ExecStop=/usr/local/bin/note stop %N
"""

TEMPLATE = """\
[Service]
Type=notify
NotifyAccess=all
WorkingDirectory=/srv/web/current
ExecStart=/srv/web/current/run %i
"""


def started(host):
    """Release r1 is live, and may name any unit of its own."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["units"] = ["web*.service"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    host.write("/usr/local/bin/note", NOTE, mode=0o755)
    return web


@pytest.fixture
def web(host):
    return started(host)


@pytest.fixture(scope="module")
def shared_web(make_module_hosts):
    """For releases that fail: r1 stays live throughout."""
    return started(make_module_hosts(1)[0])


def assert_taken_back(web, release, reason):
    """The release was given up for this reason (re.fullmatch), which status tells, and what was live before runs again."""
    state = web.wait_failed(release)
    assert re.fullmatch(reason, state["failed"]["reason"]), state["failed"]["reason"]
    assert state["history"][-1]["result"] == "reverted" and not state["down"]
    assert state["failed"]["reason"] in web.status()["poll"]["text"]
    shown = web.host.run(["slipway", "status", "web"]).stdout
    assert " ".join(state["failed"]["reason"].split()[:5]) in " ".join(shown.split()), shown
    web.assert_whole(state["current"])


def order(web):
    """What was done to the units since it was asked last, and which release was live then."""
    return web.host.run(["sh", "-c", f"cat {ORDER}; rm -f {ORDER}"], check=False).stdout.splitlines()


# -- what goes wrong

# name: the unit's file, what else is done to make it, the reason
BAD = {
    "absent": (None, None, r"web-extra\.service: systemd refused the job: Unit web-extra\.service not found\."),
    "masked": (NOTED, "mask", r"web-extra\.service: systemd refused the job: Unit web-extra\.service is masked\."),
    "broken": ("[Service]\nType=oneshot\n", None,
               r"web-extra\.service: systemd refused the job: Unit web-extra\.service has a bad unit file setting\."),
    "condition": ("[Unit]\nConditionPathExists=/nonexistent\n" + NOTED, None,
                  r"web-extra\.service: it did not stay up: systemd did not start it, because its "
                  r"ConditionPathExists=/nonexistent does not hold"),
    "assertion": ("[Unit]\nAssertPathExists=/nonexistent\n" + NOTED, None,
                  r"web-extra\.service: its job failed: one of its assertions does not hold: inactive \(dead\).*"),
    "dependency": ("[Unit]\nRequires=web-other.service\nAfter=web-other.service\n" + NOTED, None,
                   r"web-extra\.service: its job failed: a unit that it needs did not come up: inactive \(dead\).*"),
    "timeout": ("[Service]\nType=notify\nTimeoutStartSec=1s\nExecStart=sh -c 'echo in vain; exec sleep infinity'\n", None,
                r"web-extra\.service: its job failed: failed \(failed\), result timeout, main process ended with signal 15 "
                r"\(TERM\); its last lines: in vain"),
    "no program": ("[Service]\nType=exec\nExecStart=/nonexistent\n", None,
                   r"web-extra\.service: its job failed: failed \(failed\), result exit-code, main process ended with exit "
                   r"status 203; its last lines: .*/nonexistent: No such file or directory.*"),
    "reload": ("[Service]\nExecStart=sleep infinity\n", "reload",
               r"web-extra\.service: systemd refused the job: Job type reload is not applicable for unit web-extra\.service\."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_unit(shared_web, case):
    """Besides the application's own unit, which runs the new release by then."""
    web, (text, verb, reason) = shared_web, BAD[case]
    path = "/etc/systemd/system/web-extra.service"
    web.host.write("/etc/systemd/system/web-other.service", "[Service]\nType=oneshot\nExecStart=false\n")
    if text:
        web.host.write_unit("web-extra.service", text)
    if verb == "mask":
        web.host.run(["rm", path])
        web.host.run(["systemctl", "mask", "web-extra.service"])
    action = "restart"
    if verb == "reload":
        action = "reload"
        web.host.start_unit("web-extra.service")
    try:
        release = web.release(units=[(web.unit, "restart"), ("web-extra.service", action)])
        assert_taken_back(web, release, reason)
        if verb != "reload":
            assert web.host.unit("web-extra.service", "ActiveState")["ActiveState"] in ("inactive", "failed")
    finally:
        web.host.run(["systemctl", "stop", "web-extra.service"], check=False)
        web.host.run(["rm", "-f", path])
        web.host.run(["systemctl", "daemon-reload"])
    web.assert_whole("r1")


@pytest.fixture
def restarting(shared_web):
    """systemd starts the application's unit again, whatever becomes of it."""
    path = f"/etc/systemd/system/{shared_web.unit}.d/restart.conf"
    shared_web.host.write(path, "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\n")
    shared_web.host.run(["systemctl", "daemon-reload"])
    yield shared_web
    shared_web.host.run(["rm", path])
    shared_web.host.run(["systemctl", "daemon-reload"])


def test_oscillates(restarting):
    """Up and down: each time it looks well for a moment."""
    web = restarting
    release = web.release([toy.READY, "echo last words", "exit 3"], bake="5min")
    assert_taken_back(web, release, r"web\.service: (it did not stay up: activating \(auto-restart\), result exit-code, main "
                      r"process ended with exit status 3|it died and was restarted by systemd: .*); its last lines: last words")


def test_restarted_by_systemd(restarting):
    """It is well again by the time that slipwayd looks; its last words are those before it died."""
    web, host = restarting, restarting.host
    web.close_gate()
    release = web.release([toy.READY, "[ ! -e /var/tmp/died ] || { echo well again; exec sleep infinity; }", toy.gate(),
                           "touch /var/tmp/died; echo last words; exit 3"], bake="5min")
    web.wait_phase("baking", release)
    slipwayd = host.unit("slipwayd.service", "MainPID")["MainPID"]
    host.run(["kill", "-STOP", slipwayd])
    try:
        web.open_gate()
        wait_for(lambda: host.unit(web.unit, "NRestarts", "SubState") == {"NRestarts": "1", "SubState": "running"}, WAIT_SEC,
                 "systemd to restart it")
    finally:
        host.run(["kill", "-CONT", slipwayd])
    assert_taken_back(web, release, r"web\.service: it died and was restarted by systemd: active \(running\), result success; "
                      r"its last lines: last words")


def test_deadline(shared_web):
    """A start that takes longer than the release may."""
    web = shared_web
    release = web.release(["echo still at it", toy.RUN], deadline="1s")
    assert_taken_back(web, release, r"web\.service: not well within the deadline of 1 s: activating \(start\), result success; "
                      r"its last lines: still at it")


# -- in their order

UNITS = [("web-worker.service", "stop"), ("web.service", "restart"), ("web-idle.service", "try-restart"),
         ("web-other.service", "reload"), ("web-worker.service", "start")]


def test_order(web):
    """What must not run while the application is changed is stopped before, and started after it; what does not run is left
    so. The way back does the same."""
    host = web.host
    for name in ("web-worker", "web-idle", "web-other"):
        host.write_unit(f"{name}.service", NOTED)
    host.start_unit("web-other.service")
    host.start_unit("web-worker.service")
    order(web)
    for release in ("r2", "r3"):
        worker, other = (host.unit(f"web-{name}.service", "MainPID") for name in ("worker", "other"))
        web.release(units=UNITS, health={"confirm": "5min"})
        web.wait_phase("confirming", release)
        host.run(["slipway", "confirm", "web"])
        web.assert_whole(release)
        assert order(web) == [f"{done} {release}" for done in ("stop web-worker", "reload web-other", "start web-worker")]
        assert host.unit("web-idle.service", "ActiveState")["ActiveState"] == "inactive"
        assert host.unit("web-other.service", "MainPID") == other and host.unit("web-worker.service", "MainPID") != worker

    # A unit that runs is restarted by try-restart.
    host.start_unit("web-idle.service")
    order(web)
    web.release(units=UNITS)
    web.assert_whole("r4")
    done = ["stop web-worker", "stop web-idle", "start web-idle", "reload web-other", "start web-worker"]
    assert order(web) == [f"{what} r4" for what in done]

    # One that fails in the end: all of it once more, for the release before.
    release = web.release(units=[*UNITS, ("web-absent.service", "start")])
    assert_taken_back(web, release, r"web-absent\.service: systemd refused the job: Unit web-absent\.service not found\.")
    assert order(web) == [f"{what} {live}" for live in (release, "r4") for what in done]
    for name in ("web-worker", "web-idle", "web-other"):
        assert host.unit(f"{name}.service", "ActiveState")["ActiveState"] == "active"
    assert web.running() == "r4"


def test_way_back_to_what_ran(web):
    """Whether a unit ran is systemd's to say: not which release names it."""
    host = web.host
    for name in ("web-proxy", "web-worker", "web-idle"):
        host.write_unit(f"{name}.service", NOTED)
    host.start_unit("web-worker.service")
    web.release(units=[(web.unit, "restart"), ("web-worker.service", "try-restart")])
    web.assert_whole("r2")
    # runs, and r2 does not know it; is r2's, and was stopped by somebody; neither runs nor is r2's
    host.start_unit("web-proxy.service")
    host.stop_unit("web-worker.service")
    proxy = host.unit("web-proxy.service", "MainPID")
    web.close_gate()
    bad = web.release([toy.READY, toy.gate(), toy.DIE], bake="1min",
                      units=[("web-proxy.service", "restart"), ("web-worker.service", "restart"),
                             ("web-idle.service", "start"), (web.unit, "restart")])
    web.wait_phase("baking", bad)
    for name in ("web-proxy", "web-worker", "web-idle"):
        assert host.unit(f"{name}.service", "ActiveState")["ActiveState"] == "active"
    # also after a restart of slipwayd
    host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    web.open_gate()
    assert_taken_back(web, bad, r"web\.service: it did not stay up: .*")
    states = {name: host.unit(f"{name}.service", "ActiveState")["ActiveState"] for name in ("web-proxy", "web-worker", "web-idle")}
    assert states == {"web-proxy": "active", "web-worker": "inactive", "web-idle": "inactive"}
    assert host.unit("web-proxy.service", "MainPID") != proxy and web.running() == "r2"


def is_active(host, unit):
    return host.unit(unit, "ActiveState")["ActiveState"] == "active"


def test_way_back_after_power_loss(web):
    """What ran before the switch is known from before the crash: a host that comes up runs nothing yet."""
    host, path = web.host, "/var/lib/slipway/web.json"
    host.write_unit("web-worker.service", NOTED)
    host.start_unit("web-worker.service")
    web.release(units=[(web.unit, "restart"), ("web-worker.service", "try-restart")])
    web.assert_whole("r2")
    web.close_gate()
    bad = web.release([toy.READY, toy.gate(), toy.DIE], bake="1min", units=[("web-worker.service", "restart"), (web.unit, "restart")])
    web.wait_phase("baking", bad)
    # as if the power had gone right before the switch
    host.stop_unit("slipwayd.service")
    state = json.loads(host.read(path))
    assert "web-worker.service" in state["pending"]["ran"]
    host.write(path, json.dumps(state | {"phase": "switching"}), mode=0o600)
    host.run(["ln", "-sfn", "releases/r2", "/srv/web/current"])
    host.stop_unit("web-worker.service")
    host.start_unit("slipwayd.service")
    web.open_gate()
    assert_taken_back(web, bad, r"web\.service: it did not stay up: .*")
    assert is_active(host, "web-worker.service") and web.running() == "r2"


def test_way_back_to_what_waits_for_its_turn(web):
    """As when the host comes up: systemd is to start it, but something comes first."""
    host = web.host
    host.run(["mkfifo", "/run/first"])
    host.write_unit("web-first.service", "[Service]\nType=oneshot\nExecStart=sh -c 'read -r _ </run/first'\n")
    host.write_unit("web-worker.service", "[Unit]\nAfter=web-first.service\n" + NOTED)
    web.release(units=[(web.unit, "restart"), ("web-worker.service", "try-restart")])
    web.assert_whole("r2")
    host.run(["systemctl", "start", "--no-block", "web-first.service", "web-worker.service"])
    bad = web.release([toy.READY, toy.DIE], bake="1min", units=[("web-worker.service", "restart"), (web.unit, "restart")])
    web.wait_phase("restarting", bad)
    assert not is_active(host, "web-worker.service")
    host.run(["sh", "-c", "echo >/run/first"])
    assert_taken_back(web, bad, r"web\.service: it did not stay up: .*")
    assert is_active(host, "web-worker.service") and web.running() == "r2"


def test_instances_of_a_template(web):
    """Each is a unit of its own."""
    host, units = web.host, ["web@1.service", "web@2.service"]
    host.write_unit("web@.service", TEMPLATE)

    def release(script, **options):
        return web.release(script, units=[(web.unit, "restart"), *((unit, "restart") for unit in units)], **options)
    release(toy.GOOD)
    web.assert_whole("r2")
    assert [web.running(unit) for unit in units] == ["r2", "r2"]
    bad = release(['[ "$1" != 2 ] || { echo no luck; exit 7; }', *toy.GOOD])
    assert_taken_back(web, bad, r"web@2\.service: its job failed: failed \(failed\), result exit-code, main process ended with "
                      r"exit status 7; its last lines: no luck")
    assert [web.running(unit) for unit in units] == ["r2", "r2"]
    # One that dies later takes all of them back.
    web.close_gate()
    bad = release([toy.READY, f'[ "$1" != 1 ] || {{ {toy.gate()}; echo enough; exit 8; }}', toy.RUN], bake="1min")
    web.wait(lambda s: s["phase"] in ("restarting", "baking") and s["pending"]["release"] == bad, f"{bad} to come up")
    web.open_gate()
    assert_taken_back(web, bad, r"web@1\.service: it did not stay up: failed \(failed\), result exit-code, main process ended "
                      r"with exit status 8; its last lines: enough")
    assert [web.running(unit) for unit in units] == ["r2", "r2"]
