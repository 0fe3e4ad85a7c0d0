"""Releases that somebody has to confirm, and applications that hold updates off: slipway confirm, and <root>/control."""

import contextlib
import json
import subprocess
import time

import slipway
import toy
from test_crash import enable, kill_agent
from waiting import wait_for

WAIT_SEC = 30
CONTROL = "/srv/web/control"

# confirms itself, or the release that its first argument names
CONFIRM = f'echo "${{1:-$(cat name)}}" >{CONTROL}/confirm'


def make_control(web, mode="0700", owner="daemon"):
    web.host.run(["install", "-d", "-m", mode, "-o", owner, CONTROL])


def says(web, pattern):
    wait_for(lambda: pattern in web.status()["poll"]["text"], WAIT_SEC, f"status to say {pattern!r}")


@contextlib.contextmanager
def hold_off(web):
    """Around what happens while a process of the application has the lock."""
    args = ["flock", f"{CONTROL}/update.lock", "sh", "-c", "echo held; exec cat"]
    with web.host.popen(args, user="daemon", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lock:
        assert lock.stdout.readline() == "held\n"
        yield
        lock.stdin.close()
        assert lock.wait(WAIT_SEC) == 0


# -- confirm

def test_confirmed_by_an_administrator(web):
    web.release(health={"confirm": "5min"})
    web.wait_phase("confirming", "r2")
    says(web, "slipway confirm web")
    assert web.running() == "r2"
    kill_agent(web.host)
    web.wait_phase("confirming", "r2")
    assert web.host.run(["slipway", "confirm", "web"]).stdout == "web: r2 is confirmed\n"
    web.wait_live("r2")
    assert web.host.run(["slipway", "confirm", "web"], check=False).rc != 0
    web.host.wait_journal("release r2 is confirmed by root", unit="slipwayd.service")


def test_confirmed_while_the_agent_is_dead(web):
    web.release(health={"confirm": "5min"})
    web.wait_phase("confirming", "r2")
    web.host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    web.host.run(["systemctl", "stop", "slipwayd.service"])
    assert web.host.run(["slipway", "confirm", "web"]).stdout == "web: r2 is confirmed\n"
    assert web.state()["phase"] == "confirming"
    web.host.start_unit("slipwayd.service")
    web.wait_live("r2")


def test_nobody_confirms(web):
    web.release(health={"confirm": "1s"})
    state = web.wait_failed("r2")
    assert "nobody confirmed it within 1s" in state["failed"]["reason"]
    web.assert_whole("r1")


def test_dies_before_it_is_confirmed(web):
    web.close_gate()
    web.release([toy.READY, toy.gate(), toy.DIE], health={"confirm": "5min"})
    web.wait_phase("confirming", "r2")
    web.open_gate()
    state = web.wait_failed("r2")
    assert "web.service" in state["failed"]["reason"]
    web.assert_whole("r1")


def test_the_application_confirms_itself(web):
    make_control(web)
    web.host.write(f"{CONTROL}/confirm", "r2\n")
    # what was there before the switch is not of this release; what names another release neither
    web.release([toy.READY, f"set -- r1; {CONFIRM}", toy.RUN], health={"confirm": "1s"})
    web.wait_failed("r2")
    release = web.release([toy.READY, CONFIRM, toy.RUN], health={"confirm": "5min"})
    web.wait_live(release)
    # others must not be able to speak for it
    make_control(web, mode="0777")
    web.release([toy.READY, CONFIRM, toy.RUN], health={"confirm": "1s"})
    web.wait_failed("r4")
    web.host.wait_journal("control/ does not count: its mode is 0777", unit="slipwayd.service")
    web.wait_live("r3")


def test_confirmed_is_confirmed(host):
    """Once it is, neither the time nor the application's file counts, also after a crash."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    make_control(web)
    web.close_gate()
    web.release([toy.READY, CONFIRM, toy.RUN], health={"confirm": "1s"},
                also={"hooks": {"post": [{"command": ["/bin/sh", "-c", toy.gate()]}]}})
    pending = web.wait_phase("finishing", "r2")["pending"]
    assert pending["confirmed_by"] == "the application"
    host.run(["rm", f"{CONTROL}/confirm"])
    wait_for(lambda: time.time() * 1000 > pending["confirm_until_ms"], WAIT_SEC, "the time to pass")
    kill_agent(host)
    web.open_gate()
    web.wait_live("r2")
    assert web.running() == "r2"


def test_killed_right_after_the_switch(host):
    """It goes on there, and leaves alone what the new release may have said since."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    make_control(web)
    web.close_gate()
    web.release(health={"confirm": "5min"}, also={"hooks": {"pre": [{"command": ["/bin/sh", "-c", toy.gate()]}]}})
    web.wait_phase("preparing", "r2")
    host.stop_unit("slipwayd.service")
    state = json.loads(host.read("/var/lib/slipway/web.json"))
    host.write("/var/lib/slipway/web.json", json.dumps({**state, "phase": "switching"}), mode=0o600)
    # can't be removed as a file
    host.run(["sh", "-ec", f"rm /var/tmp/web.gate; mkdir {CONTROL}/confirm; ln -sfn releases/r2 /srv/web/current"])
    host.start_unit("slipwayd.service")
    web.wait_phase("confirming", "r2")
    assert web.running() == "r2"
    host.run(["slipway", "confirm", "web"])
    web.wait_live("r2")


def test_power_loss_while_it_is_to_be_confirmed(web):
    """It comes up again, and what is left of the time counts on."""
    enable(web)
    web.release(health={"confirm": "5min"})
    until = web.wait_phase("confirming", "r2")["pending"]["confirm_until_ms"]
    web.host.crash()
    web.host.boot()
    assert web.wait_phase("confirming", "r2")["pending"]["confirm_until_ms"] == until
    web.host.run(["slipway", "confirm", "web"])
    web.assert_whole("r2")


def test_the_time_passes_while_the_host_is_down(web):
    enable(web)
    web.release(health={"confirm": "2s"})
    until = web.wait_phase("confirming", "r2")["pending"]["confirm_until_ms"]
    web.host.crash()
    wait_for(lambda: time.time() * 1000 > until, WAIT_SEC, "the time to pass")
    web.host.boot()
    state = web.wait_failed("r2")
    assert "nobody confirmed it" in state["failed"]["reason"]
    web.assert_whole("r1")


# -- update lock

def test_the_application_holds_updates_off(web):
    make_control(web)
    with hold_off(web):
        web.release()
        web.wait_phase("waiting", "r2")
        says(web, "the application holds updates off since")
        assert slipway.current(web.host) == "r1" and web.running() == "r1"
        # a newer order takes its place
        web.release()
        web.wait_phase("waiting", "r3")
    web.wait_live("r3")
    # a rollback does not wait
    with hold_off(web):
        web.host.run(["slipway", "rollback", "web", "r1"])
        assert slipway.current(web.host) == "r1"


def test_held_off_after_the_pre_hooks(host):
    """Nothing has switched: a newer order takes its place, and a hold ends it."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    make_control(web)
    pre = {"hooks": {"pre": [{"command": ["/bin/sh", "-c", toy.gate()]}]}}
    for _ in range(2):
        web.close_gate()
        release = web.release(also=pre)
        web.wait_phase("preparing", release)
        with hold_off(web):
            web.open_gate()
            says(web, "preparing: the application holds updates off since")
            if release == "r2":
                web.release()
                web.wait_phase("waiting", "r3")
            else:
                assert "given up before the switch" in web.host.run(["slipway", "hold", "web"]).stdout
                assert web.state()["phase"] == "idle"
        web.wait_live("r3")


def test_held_past_the_limit(host):
    web = toy.Toy(host, toy.local_store(host))
    web.config["update_lock"] = "1s"
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    make_control(web)
    with hold_off(web):
        web.release()
        web.wait_live("r2")
        web.host.wait_journal("has held updates off for 1s, and is not waited for any longer", unit="slipwayd.service")
        # the next one is not held off anew
        web.release()
        web.wait_live("r3")
    assert web.host.journal("slipwayd.service").count("holds updates off since") <= 2
