"""`slipway` on a live host: what it shows, to whom, and the way back by hand in every state that the agent may be in."""

import json
import signal
import time

import pytest

import fault_proxy as faults
import formats
import slipway
import toy
from waiting import wait_for

NO_SUCH, BUSY, NOT_RUNNING = 3, 5, 6
HELD_SEC = 30
ROLLBACK_MAX_SEC = 5


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


def ask(host, *args, **options):
    return json.loads(host.run(["slipway", "--json", *args], **options).stdout)


def roll_back(web, *args):
    """Rolls back by hand; says how long it took, which is bounded only to find a hang."""
    begun = time.monotonic()
    answer = ask(web.host, "rollback", "web", *args)
    took_sec = time.monotonic() - begun
    print(f"slipway rollback took {took_sec:.3f} s")
    assert took_sec < ROLLBACK_MAX_SEC
    return answer["release"]


def assert_held_at(web, release):
    """The release is live and stays so, whatever the channel says."""
    web.assert_whole(release)
    assert web.state()["pinned"]["release"] == release
    assert "by hand" in ask(web.host, "poll", "web")["text"]
    web.assert_whole(release)


def test_what_it_shows(web):
    host = web.host
    whole = ask(host, "status")
    assert [a["state"]["app"] for a in whole["apps"]] == ["web"]
    app = ask(host, "status", "web")
    assert (app["root"], app["state"]["current"], app["state"]["phase"]) == ("/srv/web", "r2", "idle")
    assert [(e["action"], e["release"], e["result"], e["by"]) for e in ask(host, "history", "web")] == [
        ("deploy", "r1", "done", "agent"), ("deploy", "r2", "done", "agent")]
    last = ask(host, "history", "web")[-1]
    assert last["phases_ms"]["baking"] > 0 and sum(last["phases_ms"].values()) <= last["took_ms"]
    assert [r["release"] for r in ask(host, "releases", "web")] == ["r1", "r2"]
    assert ask(host, "poll", "web") == {"app": "web", "text": "deployment 2 (release r2) is live"}
    for args, rc in ((["status", "db"], NO_SUCH), (["history", "db"], NO_SUCH), (["poll", "db"], NO_SUCH),
                     (["rollback", "db"], NO_SUCH), (["resume", "db"], NO_SUCH), (["rollback"], 2), (["deploy", "web"], 2)):
        result = host.run(["slipway", *args], check=False)
        assert (result.rc, result.stdout) == (rc, "") and result.stderr.strip(), args


def test_ordinary_user(web):
    host = web.host
    assert ask(host, "status", user="daemon")["apps"][0]["state"]["current"] == "r2"
    assert len(ask(host, "history", "web", user="daemon")) == 2
    for args in (["rollback", "web"], ["resume", "web"], ["poll", "web"]):
        result = host.run(["slipway", *args], user="daemon", check=False)
        assert result.rc == 1 and "root" in result.stderr, result
    host.stop_unit("slipwayd.service")
    for args in (["rollback", "web"], ["resume", "web"], ["status"]):
        result = host.run(["slipway", *args], user="daemon", check=False)
        assert result.rc != 0 and "root" in result.stderr, result
    assert slipway.current(host) == "r2" and web.running() == "r2"


def test_rollback_and_resume(web):
    host = web.host
    assert roll_back(web) == "r1"
    assert_held_at(web, "r1")
    assert "slipway resume web" in host.run(["slipway", "status"]).stdout
    for release, rc in (("r9", NO_SUCH), ("../r2", 2)):
        result = host.run(["slipway", "rollback", "web", release], check=False)
        assert result.rc == rc and release in result.stderr
    live = host.run(["slipway", "rollback", "web", "r1"], check=False)
    assert live.rc != 0 and "live already" in live.stderr
    assert web.running() == "r1"
    host.run(["systemctl", "restart", "slipwayd.service"])
    assert_held_at(web, "r1")

    assert ask(host, "resume", "web") == {"app": "web"}
    web.assert_whole("r2")
    assert "pinned" not in web.state()
    event = [e for e in web.state()["history"] if e["action"] == "rollback"]
    assert [(e["release"], e["from"], e["result"], e["by"]) for e in event] == [("r1", "r2", "done", "root")]

    # Held again, and a new deployment of the channel ends it.
    assert roll_back(web, "r1") == "r1"
    web.assert_whole(web.release())


def test_rollback_to_a_release_that_does_not_run(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release([f"[ ! -e /run/broken ] || {toy.DIE}", *toy.GOOD])
    toy.start([web])
    web.wait_live("r1")
    web.wait_live(web.release())
    host.run(["touch", "/run/broken"])
    result = host.run(["slipway", "rollback", "web"], check=False)
    assert result.rc == 4 and "web.service" in result.stderr
    # It was chosen, so it stays until somebody chooses again.
    state = web.wait_live("r1")
    assert (state["history"][-1]["action"], state["history"][-1]["result"]) == ("rollback", "failed")
    assert "exit status 7" in host.run(["slipway", "history", "web"]).stdout
    assert roll_back(web, "r2") == "r2"
    assert_held_at(web, "r2")


def test_rollback_while_baking(web):
    web.release(bake="5min")
    web.wait_phase("baking", "r3")
    assert roll_back(web) == "r2"
    assert_held_at(web, "r2")


def test_rollback_while_a_start_hangs(web):
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r3")
    assert roll_back(web) == "r2"
    assert_held_at(web, "r2")


def test_rollback_while_fetching(s3, bucket, s3_proxy, host):
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.wait_live("r1")
    web.wait_live(web.release())
    gate = faults.Gate()
    s3_proxy.fault(r"/r3/artifact", gate)
    web.release()
    gate.wait_held(HELD_SEC)
    web.wait_phase("fetching", "r3")
    assert roll_back(web) == "r1"
    gate.open()
    web.wait_live("r1")
    assert web.running() == "r1" and "by hand" in ask(host, "poll", "web")["text"]
    ask(host, "resume", "web")
    web.assert_whole("r3")


@pytest.mark.parametrize("how", ["stopped", "masked", "hung"])
def test_without_slipwayd(web, how):
    host = web.host
    pid = host.unit("slipwayd.service", "MainPID")["MainPID"]
    if how == "hung":
        host.run(["kill", f"-{int(signal.SIGSTOP)}", pid])
    else:
        host.stop_unit("slipwayd.service")
    if how == "masked":
        host.run(["systemctl", "mask", "--runtime", "slipwayd.service"])
    assert ask(host, "status", "web")["state"]["current"] == "r2"
    assert roll_back(web) == "r1"
    assert slipway.current(host) == "r1" and web.running() == "r1"
    assert host.run(["slipway", "poll", "web"], check=False).rc == NOT_RUNNING
    assert ask(host, "history", "web")[-1]["action"] == "rollback"

    if how == "hung":
        host.run(["kill", f"-{int(signal.SIGCONT)}", pid], check=False)
    elif how == "masked":
        host.run(["systemctl", "unmask", "--runtime", "slipwayd.service"])
    host.run(["systemctl", "start", "slipwayd.service"])
    wait_for(lambda: "by hand" in web.status()["poll"].get("text", ""), toy.WAIT_SEC, "slipwayd to hold the channel off")
    assert_held_at(web, "r1")
    host.stop_unit("slipwayd.service")
    assert ask(host, "resume", "web") == {"app": "web"}
    assert slipway.current(host) == "r1"
    host.start_unit("slipwayd.service")
    web.assert_whole("r2")
