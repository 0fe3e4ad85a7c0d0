"""Manifests that come to their end: what is said while there is time, after it, and what `slipway-publish refresh` changes."""

import base64
import json

import pytest

import formats
import slipway
import toy
from test_journal import assert_fields, entries, wait_entry
from waiting import wait_for

WAIT_SEC = 40
MANIFEST = formats.manifest_path("web", "prod")


class Channel:
    """A toy that follows a channel on S3, whose key slipway-publish has too."""

    def __init__(self, host, s3, bucket, make_publisher):
        self.host = host
        self.environment = slipway.store_environment(s3)
        self.web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
        self.publisher = make_publisher(self.web.store.url, self.environment)
        self.web.key = self.publisher.key
        self.report_path = f"web/channels/prod/instances/{host.name}.json"

    def configure(self):
        toy.configure([self.web], url=self.web.store.url, environment=self.environment)

    def start(self, **options):
        """r1 is live."""
        self.web.release(**options)
        self.configure()
        self.host.start_unit("slipwayd.service")
        self.web.assert_whole("r1")

    def payload(self):
        return json.loads(base64.b64decode(json.loads(self.web.store.get(MANIFEST))["payload"]))

    def sign_again(self, **times):
        """The present manifest with the next serial and other times, such as slipway-publish can't give it after the fact."""
        payload = self.payload()
        payload |= {"serial": payload["serial"] + 1, **{name: formats.after(**span) for name, span in times.items()}}
        data = formats.envelope(formats.MANIFEST_TYPE, payload, [self.web.key])
        self.web.store.put(f"web/channels/prod/history/{payload['serial']}.json", data)
        self.web.store.put(MANIFEST, data)
        self.web.n_releases = payload["serial"]
        return payload

    def refresh(self, *options):
        result = self.publisher.run("refresh", *self.publisher.channel_args(), "--key", self.publisher.key_path, "--trust",
                                    self.publisher.root_path, "--json", *options)
        found = json.loads(result.stdout)
        self.web.n_releases = found["serial"]
        return found

    def floor(self):
        [floor] = self.web.state()["channels"]
        return floor["serial"], floor["deployment"]

    def wait_serial(self, serial):
        wait_for(lambda: self.floor()[0] == serial, WAIT_SEC, f"serial {serial} to be seen")

    def report(self):
        return json.loads(self.web.store.get(self.report_path))

    def wait_report(self, condition, what):
        wait_for(lambda: condition(self.report()), WAIT_SEC, what)

    def status_text(self):
        return self.host.run(["slipway", "status"]).stdout


@pytest.fixture
def channel(host, s3, bucket, make_publisher):
    return Channel(host, s3, bucket, make_publisher)


def pid_of(web):
    return web.host.unit(web.unit, "MainPID")["MainPID"]


def metrics(host):
    lines = host.run(["slipway", "metrics"]).stdout.splitlines()
    return [line.split()[-1] for line in lines if line.startswith("slipway_manifest_expires_soon{")]


def test_warned_in_time_and_refreshed(channel):
    web, host = channel.web, channel.host
    channel.start()
    before = pid_of(web)
    assert web.status()["poll"]["expires_soon"] is False and metrics(host) == ["0"]
    assert "expires in" not in channel.status_text()

    soon = channel.sign_again(published={"hours": -40}, expires={"hours": 9})
    wait_for(lambda: web.status()["poll"]["expires_soon"], WAIT_SEC, "the warning")
    entry = wait_entry(host, "EXPIRES")
    assert_fields(entry, app="web", channel="prod", release="r1")
    assert f"serial 2) expires at {soon['expires']}" in entry["MESSAGE"] and "slipway-publish refresh" in entry["MESSAGE"]
    assert entry["PRIORITY"] == "4"
    poll = web.status()["poll"]
    assert (poll["ok"], poll["verdict"], poll["expires"]) == (True, "nothing", soon["expires"])
    assert "the channel's manifest expires in" in channel.status_text()
    assert metrics(host) == ["1"]
    checked = host.run(["slipway", "check"], check=False).stdout
    assert f"expires at {soon['expires']}" in checked and "slipway-publish refresh" in checked
    channel.wait_report(lambda r: (r.get("expires_soon"), r.get("expires")) == (True, soon["expires"]), "the report to say it")
    # once for each manifest, however often it is looked at
    for _ in range(3):
        host.run(["slipway", "poll", "web"])
    assert [name for name, _ in entries(host)].count("EXPIRES") == 1

    assert not channel.refresh("--within", "8h")["refreshed"]
    found = channel.refresh("--within", "10h", "--expires", "30d")
    assert (found["refreshed"], found["serial"], found["deployment"], found["expires_before"]) == (True, 3, 1, soon["expires"])
    channel.wait_serial(3)
    assert channel.floor() == (3, 1)
    wait_for(lambda: not web.status()["poll"]["expires_soon"], WAIT_SEC, "the warning to end")
    channel.wait_report(lambda r: not r["expires_soon"], "the report to say so")
    assert "expires in" not in channel.status_text()
    # nothing was deployed by any of it
    assert pid_of(web) == before and len(web.state()["history"]) == 1
    assert [name for name, _ in entries(host)].count("EXPIRES") == 1

    # the next one that comes near its end is told again
    channel.sign_again(published={"hours": -4}, expires={"hours": 1})
    wait_entry(host, "EXPIRES", 2)
    # and what is really new goes on from there
    web.release()
    web.assert_whole("r5")
    assert web.state()["deployment"] == 5


def test_what_was_decided_here_stays(channel):
    """A deployment that went wrong, a rollback by hand and a hold are about the deployment, which is the same."""
    web, host = channel.web, channel.host
    channel.start()
    web.release(toy.CRASHING)
    web.wait_failed("r2")
    n_events = len(web.state()["history"])
    assert channel.refresh()["deployment"] == 2
    channel.wait_serial(3)
    assert web.status()["poll"]["verdict"] == "failed" and len(web.state()["history"]) == n_events
    web.assert_whole("r1")

    web.release()
    web.assert_whole("r4")
    host.run(["slipway", "rollback", "web"])
    web.assert_whole("r1")
    assert channel.refresh()["deployment"] == 4
    channel.wait_serial(5)
    assert web.status()["poll"]["verdict"] == "pinned"
    web.assert_whole("r1")

    host.run(["slipway", "resume", "web"])
    web.assert_whole("r4")
    host.run(["slipway", "hold", "web"])
    web.release()
    wait_for(lambda: web.status()["poll"]["verdict"] == "held", WAIT_SEC, "r6 to be held off")
    assert channel.refresh()["deployment"] == 6
    channel.wait_serial(7)
    assert web.status()["poll"]["verdict"] == "held"
    web.assert_whole("r4")


def test_refreshed_on_the_way(channel):
    """What is under way goes on, and is not begun again."""
    web = channel.web
    channel.start()
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    assert channel.refresh()["serial"] == 3
    wait_for(lambda: channel.host.run(["slipway", "poll", "web"], check=False) and web.status()["poll"]["ok"], WAIT_SEC, "a poll")
    web.open_gate()
    web.assert_whole("r2")
    channel.wait_serial(3)
    events = [(e["release"], e["result"]) for e in web.state()["history"]]
    assert events == [("r1", "done"), ("r2", "done")]


def test_runs_on_after_the_end(channel):
    web = channel.web
    channel.start()
    before = pid_of(web)
    channel.sign_again(published={"hours": -1}, expires={"seconds": 10})

    def says_so():
        poll = web.status()["poll"]
        return not poll["ok"] and "the manifest expired at" in poll["text"] and "slipway-publish refresh" in poll["text"]
    wait_for(says_so, WAIT_SEC, "the end to be told")
    wait_entry(channel.host, "REFUSED", text="the manifest expired at")
    assert "what is live runs on" in channel.status_text()
    channel.wait_report(lambda r: not r["ok"] and r["expires_soon"] and "expired at" in r["text"], "the report to say so")
    web.assert_whole("r1")
    # also after a start
    channel.host.run(["systemctl", "restart", "slipwayd.service"])
    wait_for(says_so, WAIT_SEC, "the end to be told again")
    web.assert_whole("r1")
    assert pid_of(web) == before
    channel.refresh("--expires", "30d")
    wait_for(lambda: web.status()["poll"]["ok"], WAIT_SEC, "the manifest to be accepted")
    assert pid_of(web) == before and len(web.state()["history"]) == 1


def test_new_instance_comes_too_late(channel):
    """It deploys nothing, says what to do, and deploys once that was done."""
    web = channel.web
    web.release()
    channel.sign_again(published={"days": -31}, expires={"hours": -1})
    channel.configure()
    channel.host.start_unit("slipwayd.service")
    entry = wait_entry(channel.host, "REFUSED", text="the manifest expired at")
    assert "slipway-publish refresh" in entry["MESSAGE"]
    assert slipway.current(channel.host) is None
    assert "slipway-publish refresh" in channel.status_text()
    channel.host.run(["journalctl", "--update-catalog"])
    explained = channel.host.run(["journalctl", "--catalog", "--no-pager", "--unit=slipwayd.service"]).stdout
    assert "sign it anew by slipway-publish refresh" in explained
    channel.refresh("--expires", "30d")
    web.assert_whole("r1")
    assert channel.floor() == (3, 1)
