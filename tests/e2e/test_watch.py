"""Looking on: `slipway poll --wait`, `slipway status --watch`, the progress of a fetch."""

import json
import os
import re
import subprocess

import pytest

import fault_proxy as faults
import formats
import slipway
import toy
from waiting import wait_for

NOT_HELD = 4
HELD_SEC = 30
PART_BYTES = 8 << 20  # of which fetch tells that they are here


class LaterParts(faults.Gate):
    """Holds every part of an object but the first that is asked for."""

    def __init__(self):
        super().__init__()
        self._first = None

    def before(self, handler):
        asked = handler.headers["Range"]
        self._first = self._first or asked
        return None if asked == self._first else super().before(handler)


@pytest.fixture
def web(host):
    """Release r1 is live; the agent asks the store when it is told to."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web], poll={"interval": "10min"})
    host.run(["slipway", "poll", "--wait", "web"])
    web.assert_whole("r1")
    return web


def poll_and_wait(web, rc):
    result = web.host.run(["slipway", "--json", "poll", "--wait", "web"], check=False)
    assert result.rc == rc, result
    return json.loads(result.stdout)


def test_poll_waits_for_the_end(web):
    answer = poll_and_wait(web, 0)
    assert (answer["result"], answer["release"]) == ("nothing", "r1")
    web.release()
    answer = poll_and_wait(web, 0)
    assert (answer["result"], answer["release"]) == ("done", "r2")
    web.release(toy.CRASHING)
    answer = poll_and_wait(web, NOT_HELD)
    assert (answer["result"], answer["release"]) == ("reverted", "r2")
    # It is not tried again, and no success either.
    assert poll_and_wait(web, NOT_HELD)["result"] == "failed"
    shown = web.host.run(["slipway", "poll", "--wait", "web"], check=False)
    assert shown.rc == NOT_HELD and "exit status 7" in shown.stdout
    web.host.run(["slipway", "hold", "web"])
    web.release()
    answer = poll_and_wait(web, 0)
    assert answer["result"] == "nothing" and "holds it" in answer["text"]
    for args in (["status", "--wait"], ["poll", "--watch"]):
        assert web.host.run(["slipway", *args], check=False).rc == 2


def watch(host, *args, terminal=False):
    command = ["slipway", "status", "--watch", *args]
    if terminal:
        command = ["script", "-qec", " ".join(command), "/dev/null"]
    return host.popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)  # to be entered


def read_until(process, pattern, what):
    """What a process writes, up to the pattern."""
    data = b""
    fd = process.stdout.fileno()
    os.set_blocking(fd, False)

    def found():
        nonlocal data
        try:
            data += os.read(fd, 1 << 20)
        except BlockingIOError:
            pass
        return re.search(pattern, data.decode(), re.S)
    wait_for(found, toy.WAIT_SEC, what)
    return data.decode()


def test_status_shows_what_changes(web):
    with (watch(web.host, "web") as lines, watch(web.host, "--json", "web") as document,
          watch(web.host, terminal=True) as terminal):
        read_until(lines, r"web: live; live is r1\n", "the first line")
        read_until(terminal, r"\x1b\[H\x1b\[J.*web .* r1 ", "the first screen")
        web.release()
        poll_and_wait(web, 0)
        text = read_until(lines, r"web: live; live is r2\n", "a line of the new release")
        assert re.search(r"web: (fetching|switching|restarting|baking) r2", text), text
        read_until(terminal, r"\x1b\[H\x1b\[J[^\x1b]*web .* r2 ", "a screen of the new release")
        text = read_until(document, r'"current":"r2".*\n', "a document of the new release")
        assert json.loads(text.splitlines()[0])["state"]["current"] == "r1"
        web.host.stop_unit("slipwayd.service")
        read_until(lines, r"slipwayd is not running\n", "a line that slipwayd is gone")
        web.host.start_unit("slipwayd.service")
        read_until(lines, r"web: live; live is r2\n", "a line of slipwayd that is back")


def test_progress_of_a_fetch(s3, bucket, s3_proxy, host):
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.wait_live("r1")
    gate = LaterParts()
    s3_proxy.fault(r"/r2/artifact", gate)
    with watch(host, "web") as lines:
        web.release(more=[formats.Entry("large", content=os.urandom(2 * PART_BYTES))])
        gate.wait_held(HELD_SEC)
        read_until(lines, r"web: fetching r2, (49|50)%; live is r1\n", "half of it to be here")
        assert f"(tt) {PART_BYTES} " in host.run(["busctl", "get-property", "org.slipway.Agent",
                                                 "/org/slipway/Agent/app/web", "org.slipway.App", "Progress"]).stdout
        assert re.search(r"fetched +\d+% \[#+ +\] 8.4 MB", host.run(["slipway", "status", "web"]).stdout)
        gate.open()
        web.assert_whole("r2")


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_deploy_shows_its_phases(web, how):
    """On a terminal, whoever does the work; elsewhere nothing but the result is said."""
    host = web.host
    if how == "stopped":
        host.stop_unit("slipwayd.service")

    def deploy(release, script):
        web.release(script)
        store = "/srv/store/web"
        return ["slipway", "deploy", "web", "--wait", "--file", f"{store}/releases/{release}/artifact.tar.zst",
                "--manifest", f"{store}/channels/prod/manifest.json"]
    web.close_gate()
    command = ["script", "-qec", " ".join(deploy("r2", [toy.gate(), *toy.GOOD])), "/dev/null"]
    with host.popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as terminal:
        text = read_until(terminal, r"web: restarting\r\n", "the phase to be shown")
        assert "is live" not in text
        web.open_gate()
        text = read_until(terminal, r"web: baking\r\n.*web: r2 is live\r\n", "the end to be shown")
        assert "web: idle" not in text and terminal.wait(toy.WAIT_SEC) == 0
    done = host.run(deploy("r3", toy.GOOD))
    assert done.stdout == "web: r3 is live\n" and "web: restarting" not in done.stderr
    assert web.running() == "r3"


def test_activate_without_slipwayd_shows_its_phases(web):
    host = web.host
    web.release()
    host.run(["slipway", "stage", "web"])
    host.stop_unit("slipwayd.service")
    shown = host.run(["script", "-qec", "slipway activate web", "/dev/null"]).stdout
    assert re.search(r"web: (restarting|baking)\n.*web: r2 is live\n", shown, re.S), shown
