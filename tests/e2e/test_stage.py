"""A deployment in two halves: brought to the host now, made live by hand later."""

import json
import random
import subprocess

import pytest

import formats
import slipway
import toy

NO_SUCH, NOT_HELD, BUSY = 3, 4, 5


def ask(host, *args):
    return json.loads(host.run(["slipway", "--json", *args]).stdout)


def wait_staged(web, release):
    state = web.wait(lambda s: (s["phase"], s.get("staged", {}).get("release")) == ("idle", release), f"{release} to be staged")
    assert web.host.read(f"{web.root}/releases/{release}/name") == f"{release}\n"
    return state


def staged_start(host, **config):
    """r1 is live, by hand where that is configured; the store is asked only when the test says so."""
    web = toy.Toy(host, toy.local_store(host))
    web.config.update(config)
    web.release()
    toy.start([web], poll={"interval": "1h"})
    host.run(["slipway", "poll", "web"])
    if config.get("activate") == "manual":
        assert wait_staged(web, "r1")["staged"]["by"] == "agent"
        assert not host.exists("/srv/web/current")
        assert ask(host, "activate", "web") == {"app": "web", "release": "r1"}
    web.assert_whole("r1")
    return web


def test_by_configuration(host):
    web = staged_start(host, activate="manual", keep=2)
    web.release()
    ask(host, "poll", "web")
    wait_staged(web, "r2")
    assert web.running() == "r1" and slipway.current(host) == "r1"
    assert "slipway activate web" in host.run(["slipway", "status"]).stdout
    assert "is staged" in ask(host, "poll", "web")["text"]
    assert [(r["release"]) for r in ask(host, "releases", "web")] == ["r1", "r2"]

    # A newer one takes its place, a restart of slipwayd keeps it, and then no store is needed.
    web.release()
    ask(host, "poll", "web")
    wait_staged(web, "r3")
    host.run(["systemctl", "restart", "slipwayd.service"])
    host.run(["mv", "/srv/store", "/srv/store.away"])
    assert ask(host, "activate", "web") == {"app": "web", "release": "r3"}
    web.assert_whole("r3")
    assert "staged" not in web.state()
    assert [(e["action"], e["release"], e["by"]) for e in ask(host, "history", "web")] == [
        ("stage", "r1", "agent"), ("deploy", "r1", "root"), ("stage", "r2", "agent"), ("stage", "r3", "agent"),
        ("deploy", "r3", "root")]
    assert not host.exists("/srv/web/releases/r2")
    assert ask(host, "rollback", "web")["release"] == "r1"


def test_by_hand(host):
    """Of an application whose deployments go live by themselves otherwise."""
    web = staged_start(host)
    assert "is live" in ask(host, "stage", "web")["text"]
    web.release()
    assert ask(host, "stage", "web") == {"app": "web", "text": "release r2 is staged"}
    assert wait_staged(web, "r2")["staged"]["by"] == "root"
    assert "is staged" in ask(host, "poll", "web")["text"]
    assert ask(host, "stage", "web") == {"app": "web", "text": "release r2 is staged"}
    assert web.running() == "r1"

    # slipwayd may be dead.
    host.stop_unit("slipwayd.service")
    assert "staged" in host.run(["slipway", "status", "web"]).stdout
    assert ask(host, "activate", "web") == {"app": "web", "release": "r2"}
    assert slipway.current(host) == "r2" and web.running() == "r2"
    host.start_unit("slipwayd.service")
    web.assert_whole("r2")

    # A newer deployment overtakes what is staged; so does resume.
    web.release()
    ask(host, "stage", "web")
    web.release()
    ask(host, "poll", "web")
    web.assert_whole("r4")
    assert "staged" not in web.state()
    web.release()
    ask(host, "stage", "web")
    ask(host, "resume", "web")
    web.assert_whole("r5")


def once(host, *args):
    """A round of slipwayd, as somebody does it who makes an image."""
    return host.run(["systemd-run", "--quiet", "--wait", "--pipe", "/usr/lib/slipway/slipwayd", *args], check=False).rc


def test_image(host):
    """What is staged in an image goes live at boot without its store, and of what is newer only that is fetched."""
    web = toy.Toy(host, toy.local_store(host))
    large = formats.Entry("large", content=random.Random(1).randbytes(300_000))
    web.release(more=[large])
    toy.configure([web])
    assert once(host, "--stage") == 0
    assert not host.exists("/srv/web/current") and host.unit(web.unit, "ActiveState")["ActiveState"] == "inactive"
    state = json.loads(host.read("/var/lib/slipway/web.json"))
    [installed] = state["releases"]
    assert installed["release"] == "r1" and "staged" not in state
    assert once(host, "--stage") == 0

    host.run(["rm", "/srv/store/web/releases/r1/artifact.tar.zst"])
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")
    web.release([*toy.GOOD[:1], "true", *toy.GOOD[1:]], more=[large])
    web.assert_whole("r2")
    said = host.wait_journal(r"(\d+) files of release r2 were here already; (\d+) of (\d+) bytes", unit="slipwayd.service")
    n_files, n_fetched, n_bytes = map(int, said.groups())
    assert n_files >= 1 and n_fetched < 10_000 < 300_000 < n_bytes


def test_image_of_a_manual_one(host):
    """It waits for somebody in the image as it does elsewhere."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["activate"] = "manual"
    web.release()
    toy.configure([web])
    assert once(host, "--stage") == 0
    host.start_unit("slipwayd.service")
    wait_staged(web, "r1")
    assert not host.exists("/srv/web/current")
    assert ask(host, "activate", "web") == {"app": "web", "release": "r1"}


def test_what_does_not_hold(host):
    web = staged_start(host, activate="manual")
    web.release(toy.CRASHING)
    ask(host, "poll", "web")
    wait_staged(web, "r2")
    result = host.run(["slipway", "activate", "web"], check=False)
    assert result.rc == NOT_HELD and "exit status 7" in result.stderr and "live is r1" in result.stderr
    web.assert_whole("r1")
    state = web.state()
    assert state["failed"]["release"] == "r2" and "staged" not in state
    assert "went wrong here" in ask(host, "poll", "web")["text"]


def test_killed_while_activating(host):
    web = staged_start(host)
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    ask(host, "stage", "web")
    with host.popen(["slipway", "activate", "web"], stderr=subprocess.DEVNULL):
        web.wait_phase("restarting", "r2")
        for verb in ("activate", "stage"):
            assert host.run(["slipway", verb, "web"], check=False).rc == BUSY
        host.run(["systemctl", "kill", "--signal=KILL", "--kill-who=main", "slipwayd.service"])
    host.run(["systemctl", "start", "slipwayd.service"])
    web.open_gate()
    web.assert_whole("r2")
    state = web.state()
    assert "staged" not in state and (state["history"][-1]["release"], state["history"][-1]["by"]) == ("r2", "root")


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_nothing_to_activate(host, how):
    web = staged_start(host)
    web.release()
    ask(host, "stage", "web")
    host.run(["mv", "/srv/web/releases/r2", "/srv/web/releases/.gone"])
    if how == "stopped":
        host.stop_unit("slipwayd.service")
    for app, text in (("web", "was removed since"), ("db", "db")):
        result = host.run(["slipway", "activate", app], check=False)
        assert result.rc == NO_SUCH and text in result.stderr, result
    assert web.running() == "r1"
    if how == "stopped":
        return
    ask(host, "stage", "web")
    ask(host, "activate", "web")
    web.wait_live("r2")
    result = host.run(["slipway", "activate", "web"], check=False)
    assert result.rc == NO_SUCH and "nothing is staged" in result.stderr
    host.run(["mv", "/srv/store", "/srv/store.away"])
    result = host.run(["slipway", "stage", "web"], check=False)
    assert result.rc == 1 and "the store" in result.stderr, result
    assert web.running() == "r2"
