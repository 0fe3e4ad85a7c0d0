"""A manifest's window: when in the week what runs on a host may be changed by the channel."""

import datetime
import json

import formats
import slipway
import toy
from waiting import wait_for

NOT_DUE, DEFERRED = 7, 6
# A window begins and ends with a minute, and the agent may be ten seconds late.
NEAR_SEC, LATE_SEC = 20, 30
OUTSIDE = "is to be deployed in its window, "


def ask(host, *args):
    return json.loads(host.run(["slipway", "--json", *args]).stdout)


def poll(web):
    web.host.run(["slipway", "poll", "web"])
    return web.status()["poll"]


def assert_outside(web, live):
    """The live release stays, and everybody says why."""
    host = web.host
    said = poll(web)
    assert (said["verdict"], said["ok"]) == ("outside-window", True), said
    assert f"r{web.n_releases}) {OUTSIDE}" in said["text"] and "(UTC), which opens at 20" in said["text"]
    web.assert_whole(live)  # nothing was fetched either


def test_closed_and_open(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.wait_live("r1")
    web.release(window=[toy.closed_window()])
    assert_outside(web, "r1")
    plan = ask(host, "plan", "web")
    assert plan["verdict"] == "outside-window" and [o["verdict"] for o in plan["obstacles"]] == ["outside-window"]
    assert "which opens at 20" in host.run(["slipway", "plan", "web"]).stdout
    assert "which opens at 20" in host.run(["slipway", "status", "web"]).stdout
    assert ask(host, "poll", "web", "--wait")["result"] == "nothing"
    assert host.run(["slipway", "due", "web"], check=False).rc == NOT_DUE
    host.run(["systemctl", "restart", "slipwayd.service"])
    assert_outside(web, "r1")
    host.stop_unit("slipwayd.service")
    once = host.run(["/usr/lib/slipway/slipwayd", "--once"], check=False)
    assert once.rc == DEFERRED, once
    host.start_unit("slipwayd.service")
    assert_outside(web, "r1")

    # What a person does here does not wait.
    host.run(["slipway", "stage", "web"])
    assert web.state()["staged"]["release"] == "r2" and slipway.current(host) == "r1"
    host.run(["slipway", "activate", "web"])
    web.assert_whole("r2")
    host.run(["slipway", "rollback", "web"])
    web.assert_whole("r1")
    host.run(["slipway", "resume", "web"])
    assert_outside(web, "r1")

    # The next order has a window of its own, or none.
    web.release(window=[toy.closed_window(), toy.open_window()])
    web.assert_whole("r3")
    web.release(window=[toy.closed_window()])
    assert_outside(web, "r3")
    web.release()
    web.assert_whole("r5")


def test_where_nothing_works_it_does_not_count(host):
    """A new host, one whose release is gone, one that only stages."""
    web = toy.Toy(host, toy.local_store(host))
    web.release(window=[toy.closed_window()])
    toy.start([web])
    web.assert_whole("r1")
    host.run(["rm", "-r", "/srv/web/releases/r1"])
    wait_for(lambda: host.exists("/srv/web/releases/r1/run"), toy.WAIT_SEC, "the release to be brought again")
    web.assert_whole("r1")
    web.config["activate"] = "manual"
    web.release(window=[toy.closed_window()])
    toy.configure([web])
    host.run(["systemctl", "restart", "slipwayd.service"])
    web.wait(lambda s: s.get("staged", {}).get("release") == "r2", "r2 to be staged")
    web.assert_whole("r1")


def test_it_opens_and_closes(host):
    """Without a poll; what has begun goes on."""
    web, db = toy.Toy(host, toy.local_store(host)), toy.Toy(host, toy.local_store(host), app="db")
    for app in (web, db):
        app.release()
    toy.start([web, db], poll={"interval": "24h"})
    host.run(["slipway", "poll"])
    for app in (web, db):
        app.wait_live("r1")
    db.close_gate()
    now = datetime.datetime.now(datetime.timezone.utc)
    change = (now + datetime.timedelta(seconds=NEAR_SEC + 60)).replace(second=0, microsecond=0)
    hour = datetime.timedelta(hours=1)
    web.release(window=[formats.window_span(change, change + hour)])
    db.release([toy.gate("db"), *toy.GOOD], window=[formats.window_span(change - hour, change)])
    host.run(["slipway", "poll"])
    assert OUTSIDE in poll(web)["text"] and f"opens at {formats.time_text(change)}" in poll(web)["text"]
    db.wait_phase("restarting", "r2")
    wait_for(lambda: slipway.current(host) == "r2", NEAR_SEC + 60 + LATE_SEC, "r2 when its window opens")
    assert datetime.datetime.now(datetime.timezone.utc) >= change
    web.assert_whole("r2")

    host.run(["slipway", "poll", "db"])
    db.wait_phase("restarting", "r2")
    db.open_gate()
    db.assert_whole("r2")
    db.release(window=[formats.window_span(change - hour, change)])
    host.run(["slipway", "poll", "db"])
    assert db.status()["poll"]["verdict"] == "outside-window"
    db.assert_whole("r2")
