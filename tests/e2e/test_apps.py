"""Several applications on a host, who is meant by a release, and what a deployment may do to units."""

import fault_proxy as faults
import formats
import slipway
import toy
from waiting import wait_for

HELD_SEC = 30


def polled(toy_, pattern_text):
    """Waits until the last poll says that text."""
    return wait_for(lambda: pattern_text in toy_.status()["poll"].get("text", ""), toy.WAIT_SEC,
                    f"the poll to say {pattern_text!r}")


def test_unit_that_hangs_in_its_start(host):
    store = toy.local_store(host)
    web, slow = toy.Toy(host, store), toy.Toy(host, store, app="slow")
    toy.start([web, slow])
    slow.close_gate()
    slow.release([toy.gate("slow"), *toy.GOOD])
    slow.wait_phase("restarting", "r1")
    for _ in range(2):
        web.assert_whole(web.release())
    assert "deployment 2 (release r2) is live" in host.run(["slipway", "poll", "web"]).stdout
    assert host.run(["slipway", "--json", "rollback", "web"]).stdout
    assert web.running() == "r1"
    assert slow.state()["phase"] == "restarting"
    slow.open_gate()
    slow.assert_whole("r1")


def test_artifact_that_stalls(s3, bucket, s3_proxy, host):
    store = formats.S3Store(s3.client(), bucket)
    web, slow = toy.Toy(host, store), toy.Toy(host, store, app="slow")
    toy.start([web, slow], url=store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    stall = faults.StallAfter(20)
    rule = s3_proxy.fault(r"/slow/releases/r1/artifact", stall, times=1)
    slow.release()
    wait_for(lambda: rule.hits, HELD_SEC, "the artifact to be asked for")
    for _ in range(2):
        web.wait_live(web.release())
    assert web.running() == "r2"
    assert slow.state()["phase"] == "fetching"
    assert slipway.current(host, "/srv/slow") is None
    stall.release()
    slow.assert_whole("r1")


def test_tags_decide(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(targets={"any": [{"Role": ["db"]}, {"Role": ["web"], "Stage": ["staging"]}]})
    toy.start([web], tags={"Role": "web", "Stage": "prod"})
    polled(web, "is not for this instance")
    assert web.state()["phase"] == "idle" and not host.exists("/srv/web/current")
    assert "not for this instance" in host.run(["slipway", "status", "web"]).stdout

    web.assert_whole(web.release(targets={"any": [{"Canary": ["true"]}, {"Role": ["db", "web"], "Stage": ["prod"]}]}))
    # What is for others does not take away what runs here.
    web.release(targets={"any": [{"Role": ["db"]}]})
    polled(web, "deployment 3 (release r3) is not for this instance")
    assert web.running() == "r2" and slipway.current(host) == "r2"


def test_two_channels(host):
    """The tag decides about the channel, each of which has its own serials."""
    store = toy.local_store(host)
    prod, staging = toy.Toy(host, store), toy.Toy(host, store, channel="staging")
    staging.key = prod.key
    prod.config["channel"] = "{tag:Stage}"
    for _ in range(3):
        staging.release()
    prod.release()
    toy.start([prod], tags={"Stage": "staging"})
    prod.assert_whole("r3")
    toy.configure([prod], tags={"Stage": "prod"})
    host.run(["systemctl", "restart", "slipwayd.service"])
    # A lower serial and deployment, but of another channel.
    prod.assert_whole("r1")
    assert {c["channel"]: c["serial"] for c in prod.state()["channels"]} == {"staging": 3, "prod": 1}


def test_keep(host):
    web = toy.Toy(host, toy.local_store(host))
    web.config["keep"] = 2
    toy.start([web])
    for _ in range(4):
        web.assert_whole(web.release())
    assert host.listdir("/srv/web/releases") == ["r3", "r4"]
    web.wait_failed(web.release(toy.CRASHING))
    # What failed stays to be looked at, until the next one is well.
    assert host.listdir("/srv/web/releases") == ["r3", "r4", "r5"]
    web.assert_whole(web.release())
    assert host.listdir("/srv/web/releases") == ["r4", "r6"]
    assert host.listdir("/var/lib/slipway/web.index") == ["r4", "r6"]
    host.run(["slipway", "rollback", "web"])
    assert web.running() == "r4"
    assert host.run(["slipway", "rollback", "web", "r5"], check=False).rc == 3


def test_reload(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    before = host.unit(web.unit, "MainPID", "NRestarts")
    web.release(units=[(web.unit, "reload")])
    web.wait_live("r2")
    assert host.read("/run/web.reloaded") == "r2\n"
    assert host.unit(web.unit, "MainPID", "NRestarts") == before
    host.stop_unit(web.unit)
    web.release(units=[(web.unit, "reload-or-restart")])
    web.assert_whole("r3")


def test_without_units(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(units=())
    toy.start([web])
    for release in ("r1", "r2"):
        web.wait_live(release)
        assert host.read("/srv/web/current/name") == f"{release}\n"
        web.release(units=())
    web.wait_live("r3")
    assert host.unit(web.unit, "ActiveState")["ActiveState"] == "inactive"
    assert host.run(["slipway", "rollback", "web"]).rc == 0
    assert slipway.current(host) == "r2"


def test_first_release_fails(host):
    """There is nothing to go back to: the units are stopped and nothing is live, until a good one comes."""
    web = toy.Toy(host, toy.local_store(host))
    web.release([toy.READY, toy.gate(), toy.DIE], bake="60s")
    toy.configure([web])
    web.close_gate()
    host.start_unit("slipwayd.service")
    web.wait_phase("baking", "r1")
    web.open_gate()
    state = web.wait_failed("r1")
    assert "current" not in state and not host.exists("/srv/web/current")
    assert "web.service" in state["failed"]["reason"] and "exit status 7" in state["failed"]["reason"]
    assert host.unit(web.unit, "ActiveState", "MainPID") == {"ActiveState": "inactive", "MainPID": "0"}
    told = host.run(["slipway", "status", "web"]).stdout
    assert "r1" in told and "exit status 7" in told
    [event] = state["history"]
    assert (event["result"], event["release"]) == ("reverted", "r1") and "from" not in event
    assert host.run(["slipway", "rollback", "web"], check=False).rc == 3
    assert web.state()["phase"] == "idle"

    web.assert_whole(web.release())
    assert "failed" not in web.state()
