"""`slipway hold`: nothing is deployed until it ends, and everything else goes on."""

import json

import pytest

import fault_proxy as faults
import formats
import slipway
import toy
from test_crash import kill_agent
from waiting import wait_for

HELD_SEC = 30


@pytest.fixture
def web(host):
    """Releases r1 and r2, of which r2 is live."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.wait_live("r1")
    web.release()
    web.wait_live("r2")
    return web


def ask(host, *args):
    return json.loads(host.run(["slipway", "--json", *args]).stdout)


def hold(web, *args):
    return ask(web.host, "hold", "web", *args)["text"]


def assert_held(web, release):
    """The release stays, and the agent says what it would deploy."""
    assert f"r{web.n_releases}) is to be deployed, but root holds it" in ask(web.host, "poll", "web")["text"]
    web.assert_whole(release)


def bus_property(host, name):
    return host.run(["busctl", "get-property", "org.slipway.Agent", "/org/slipway/Agent/app/web", "org.slipway.App",
                     name]).stdout.strip()


def test_nothing_is_deployed_and_the_rest_goes_on(web):
    host = web.host
    assert hold(web, "--until", "2h", "--reason", "the fair").endswith("Z: the fair")
    held = web.state()["held"]
    assert (held["by"], held["reason"]) == ("root", "the fair")
    assert (bus_property(host, "HeldBy"), bus_property(host, "HoldReason")) == ('s "root"', 's "the fair"')
    web.release()
    assert_held(web, "r2")
    overview = host.run(["slipway", "status"]).stdout
    assert "held by root" in overview and "the fair" in overview and "slipway resume web" in overview
    host.run(["systemctl", "restart", "slipwayd.service"])
    assert_held(web, "r2")

    # The way back stays open, and staging touches nothing that is live.
    host.run(["slipway", "rollback", "web"])
    web.assert_whole("r1")
    ask(host, "resume", "web")
    web.assert_whole("r3")
    assert "held" not in web.state() and bus_property(host, "HeldBy") == 's ""'
    for args in (["hold", "web", "--until", "yesterday"], ["hold", "web", "--until", "2020-01-01T00:00:00Z"],
                 ["status", "--until", "2h"], ["hold"]):
        assert host.run(["slipway", *args], check=False).rc == 2, args
    assert host.run(["slipway", "hold", "db"], check=False).rc == 3


@pytest.mark.parametrize("how", ["running", "restarted"])
def test_it_ends_by_itself(web, how):
    hold(web, "--until", "3s")
    web.release()
    assert_held(web, "r2")
    if how == "restarted":
        web.host.run(["systemctl", "restart", "slipwayd.service"])
    web.assert_whole("r3")
    assert "held" not in web.state()
    assert web.state()["history"][-1]["by"] == "agent"


def test_what_has_switched_goes_on(web):
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r3")
    assert "has switched already, and goes on" in hold(web)
    web.open_gate()
    web.assert_whole("r3")
    web.release()
    assert_held(web, "r3")


@pytest.mark.parametrize("killed", [False, True])
def test_pre_hooks_end_first(host, killed):
    """They are not cut off; then it is given up, also where slipwayd died meanwhile."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["hook_users"] = ["root"]
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.close_gate()
    web.release(also={"hooks": {"pre": [{"command": ["/bin/sh", "-c", f"{toy.gate()}; echo >>/run/done"]}]}})
    web.wait_phase("preparing", "r2")
    assert "is given up when its pre hooks have ended" in hold(web)
    if killed:
        kill_agent(host)
        web.wait_phase("preparing", "r2")
    web.open_gate()
    state = web.wait(lambda s: s["phase"] == "idle", "r2 to be given up")
    assert (state["history"][-1]["result"], state["history"][-1]["reason"]) == ("failed", "held by an administrator")
    assert host.read("/run/done") == "\n" and "failed" not in state
    assert_held(web, "r1")
    ask(host, "resume", "web")
    web.assert_whole("r2")


def test_what_is_fetched_is_given_up(s3, bucket, s3_proxy, host):
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.wait_live("r1")
    gate = faults.Gate()
    s3_proxy.fault(r"/r2/artifact", gate)
    web.release()
    gate.wait_held(HELD_SEC)
    web.wait_phase("fetching", "r2")
    assert "given up before the switch" in hold(web)
    gate.open()
    state = web.wait_live("r1")
    assert (state["history"][-1]["result"], state["history"][-1]["reason"]) == ("failed", "held by an administrator")
    # What was fetched stays for when it ends.
    assert "root holds it" in ask(host, "poll", "web")["text"]
    assert slipway.current(host) == "r1" and host.listdir("/var/cache/slipway")
    ask(host, "resume", "web")
    web.assert_whole("r2")


def test_without_slipwayd(web):
    host = web.host
    host.stop_unit("slipwayd.service")
    hold(web, "--reason", "no agent")
    assert ask(host, "status", "web")["state"]["held"]["reason"] == "no agent"
    web.release()
    host.start_unit("slipwayd.service")
    wait_for(lambda: "no agent" in web.status()["poll"].get("text", ""), toy.WAIT_SEC, "slipwayd to keep the hold")
    assert_held(web, "r2")
    host.stop_unit("slipwayd.service")
    ask(host, "resume", "web")
    host.start_unit("slipwayd.service")
    web.assert_whole("r3")
