"""`slipway plan`: what would happen now, why not, and which files would change."""

import json
import random
import re

import pytest

import formats
import toy

NOT_RUNNING = 6


@pytest.fixture
def web(host):
    """Release r1 is live, with a file of its own."""
    web = toy.Toy(host, toy.local_store(host))
    web.release(more=[formats.Entry("old", content=b"old")])
    toy.start([web])
    web.wait_live("r1")
    return web


def plan(web):
    web.host.run(["slipway", "poll", "web"])
    return json.loads(web.host.run(["slipway", "--json", "plan", "web"]).stdout)


def test_what_is_live(web):
    p = plan(web)
    assert (p["app"], p["channel"], p["verdict"], p["live"]["release"], p["wanted"]["release"]) == (
        "web", "prod", "nothing", "r1", "r1")
    assert p["wanted"]["travels_bytes"] == 0
    assert (p["files"]["n_added"], p["files"]["n_changed"], p["files"]["n_removed"], p["files"]["n_same"]) == (0, 0, 0, 4)


def test_what_would_change(web):
    """The index is fetched for it, and nothing is left of that."""
    host = web.host
    host.run(["slipway", "hold", "web", "--reason", "the fair"])
    new = [formats.Entry("lib", type="d", mode=0o755), formats.Entry("lib/new", content=b"new")]
    web.release([*toy.GOOD[:1], "true", *toy.GOOD[1:]], more=new)
    p = plan(web)
    assert p["verdict"] == "held" and "the fair" in p["text"]
    assert [o["verdict"] for o in p["obstacles"]] == ["held"]
    assert (p["files"]["added"], p["files"]["changed"], p["files"]["removed"]) == (["lib/new"], ["name", "run"], ["old"])
    assert p["wanted"]["travels_bytes"] > 0
    shown = host.run(["slipway", "plan", "web"]).stdout
    assert "root holds it" in shown and "+ lib/new" in shown and "~ run" in shown and "- old" in shown
    assert "files: 1 added, 2 changed, 1 removed, 1 as they are; " in shown
    web.assert_whole("r1")

    # Two reasons against it are two reasons told.
    host.run(["slipway", "resume", "web"])
    web.assert_whole("r2")
    host.run(["slipway", "rollback", "web"])
    host.run(["slipway", "hold", "web"])
    p = plan(web)
    assert [o["verdict"] for o in p["obstacles"]] == ["pinned", "held"] and p["verdict"] == "pinned"
    # It is on this host: nothing travels, no index either.
    assert p["wanted"]["travels_bytes"] == 0 and p["files"]["added"] == ["lib/new"]
    web.assert_whole("r1")


def test_what_travels(web):
    """What a release on this host has does not, live or not."""
    host = web.host
    large = formats.Entry("large", content=random.Random(1).randbytes(300_000))
    web.release(more=[large])
    web.wait_live("r2")
    host.run(["slipway", "rollback", "web"])
    host.run(["slipway", "hold", "web"])
    other = formats.Entry("other", content=random.Random(2).randbytes(200_000))
    web.release(more=[formats.Entry("a", content=large.content), other])
    wanted = plan(web)["wanted"]
    assert 200_000 < wanted["travels_bytes"] < 220_000 and wanted["artifact_bytes"] > 500_000
    assert wanted["travels_ranges"] >= 1
    assert re.search(r"travels: 2\d\d(\.\d)? kB of 5\d\d(\.\d)? kB", host.run(["slipway", "plan", "web"]).stdout)
    # all but the file with its name
    web.release(more=[large])
    assert 0 < plan(web)["wanted"]["travels_bytes"] < 1000


def test_what_failed_is_said(web):
    web.wait_failed(web.release(toy.CRASHING))
    p = plan(web)
    assert p["verdict"] == "failed" and "exit status 7" in p["text"] and p["files"]["changed"] == ["name", "run"]


def test_what_is_for_others(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web], tags={"Role": "web"})
    web.wait_live("r1")
    web.release([toy.READY, "true", toy.RUN], targets={"any": [{"Role": ["db"]}]})
    p = plan(web)
    assert p["verdict"] == "not-target" and [o["verdict"] for o in p["obstacles"]] == ["not-target"]
    assert (p["live"]["release"], p["wanted"]["release"], p["files"]["changed"]) == ("r1", "r2", ["name", "run"])
    assert "not for this instance" in p["text"] and "not for this instance" in host.run(["slipway", "plan", "web"]).stdout
    web.assert_whole("r1")


def test_who_may_ask(web):
    host = web.host
    result = host.run(["slipway", "plan", "web"], user="daemon", check=False)
    assert result.rc == 1 and "root" in result.stderr
    assert host.run(["slipway", "plan", "db"], check=False).rc == 3
    host.stop_unit("slipwayd.service")
    assert host.run(["slipway", "plan", "web"], check=False).rc == NOT_RUNNING
