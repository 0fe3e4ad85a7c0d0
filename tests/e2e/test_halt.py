"""The brake of a channel: halt.json in the store keeps its instances from beginning a deployment."""

import json

import fault_proxy as faults
import formats
import slipway
import toy
from waiting import wait_for

DEFERRED = 6


def poll(web):
    web.host.run(["slipway", "poll", "web"])
    return web.status()["poll"]


class BrakeOfItsOwn:
    """A store where a release leaves the brake alone, as slipway-publish does."""

    def __init__(self, store):
        self.store, self.url = store, store.url

    def put(self, path, data):
        if not path.endswith("/halt.json"):
            self.store.put(path, data)

    def brake(self, halted, **more):
        self.store.put("web/channels/prod/halt.json", json.dumps({"halted": halted, **more}).encode())


def test_halted(host):
    web = toy.Toy(host, BrakeOfItsOwn(toy.local_store(host)))
    web.release()
    toy.start([web])
    web.wait_live("r1")
    web.store.brake(True, by="ann", reason="the fair")
    web.release()
    said = poll(web)
    assert (said["verdict"], said["ok"]) == ("halted", True) and "by ann: the fair" in said["text"]
    plan = json.loads(host.run(["slipway", "--json", "plan", "web"]).stdout)
    assert [o["verdict"] for o in plan["obstacles"]] == ["halted"]
    web.assert_whole("r1")
    # What is done here and now is not the channel's.
    host.run(["slipway", "stage", "web"])
    assert web.state()["staged"]["release"] == "r2"
    host.stop_unit("slipwayd.service")
    host.run(["slipway", "resume", "web"])
    once = host.run(["/usr/lib/slipway/slipwayd", "--once"], check=False)
    assert once.rc == DEFERRED, once
    host.start_unit("slipwayd.service")
    web.store.brake(False)
    web.assert_whole("r2")


def test_unknown(s3, bucket, s3_proxy, host):
    """A store that does not say is waited for, and then done without."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint),
              poll={"interval": "1s", "halt_wait": "3s"})
    web.wait_live("r1")
    s3_proxy.fault(r"/halt\.json", faults.Answer(403, "AccessDenied"))
    web.release()
    wait_for(lambda: web.status()["poll"].get("verdict") == "halt-unknown", toy.WAIT_SEC, "the wait for the brake")
    assert slipway.current(host) == "r1"
    web.assert_whole("r2")
    host.wait_journal(r"whether channel prod is halted can't be known .*: goes on", unit="slipwayd.service")
