"""A host converges when it boots: what it runs is deployed before others start, for as long as that may take."""

import json
import time

import toy
from waiting import wait_for

NOT_RUNNING, NOT_DUE = 6, 7
PAST_START_SEC = 1
LATE = """\
[Unit]
Wants=slipway-ready.target
After=slipway-ready.target
[Service]
Type=oneshot
ExecStart=sh -c 'readlink /srv/web/current >/run/late || echo nothing >/run/late'
[Install]
WantedBy=multi-user.target
"""


def prepare(host, **members):
    """An application that was never deployed, and a unit that is to start after it was."""
    web = toy.Toy(host, toy.local_store(host))
    toy.configure([web], ready="deployed", **members)
    host.write_unit("late.service", LATE)
    return web


def test_reboot(host):
    web = prepare(host, ready_limit="30s")
    web.release(bake="500ms")
    host.run(["systemctl", "enable", "slipwayd.service", "late.service"])
    host.shut_down()
    host.boot()
    # systemd says that a boot is over when late.service was started.
    assert host.read("/run/late") == "releases/r1\n"
    web.assert_whole("r1")
    # And once more with something live, and a newer release.
    web.release(bake="500ms")
    host.crash()
    host.boot()
    assert host.read("/run/late") == "releases/r2\n"
    web.assert_whole("r2")


def test_store_comes_late(host):
    """Where nothing is live, the store is waited for, longer than a service may take to start."""
    web = prepare(host, url="file:///srv/usb", poll={"interval": "1h"})
    host.write("/etc/systemd/system/slipwayd.service.d/limit.conf", "[Service]\nTimeoutStartSec=500ms\n")
    host.run(["systemctl", "daemon-reload"])
    begun = time.monotonic()
    host.run(["systemctl", "start", "--no-block", "late.service"])
    wait_for(lambda: "can't ask the store" in host.journal("slipwayd.service"), toy.WAIT_SEC, "a poll")
    assert host.unit("slipwayd.service", "ActiveState")["ActiveState"] == "activating"
    wait_for(lambda: time.monotonic() - begun > PAST_START_SEC, toy.WAIT_SEC, "the time for a start to be over")
    assert host.unit("slipwayd.service", "ActiveState", "NRestarts") == {"ActiveState": "activating", "NRestarts": "0"}
    assert not host.exists("/run/late")
    web.release()
    host.run(["mv", "/srv/store", "/srv/usb"])
    wait_for(lambda: host.exists("/run/late") and host.read("/run/late"), toy.WAIT_SEC, "late.service to run")
    assert host.read("/run/late") == "releases/r1\n"
    web.assert_whole("r1")
    assert host.unit("slipwayd.service", "NRestarts")["NRestarts"] == "0"
    # With something live it is not.
    host.run(["mv", "/srv/usb", "/srv/gone"])
    host.run(["systemctl", "restart", "slipwayd.service"])
    assert host.unit("slipwayd.service", "ActiveState")["ActiveState"] == "active"


def test_limit(host):
    prepare(host, url="file:///srv/absent", ready_limit="1s")
    host.start_unit("late.service")
    assert host.read("/run/late") == "nothing\n"
    assert "ready_limit" in host.journal("slipwayd.service")


def test_release_that_does_not_run(host):
    web = prepare(host)
    web.release(toy.CRASHING)
    host.start_unit("late.service")
    assert host.read("/run/late") == "nothing\n"
    web.wait_failed("r1")


def test_hooks_before_others_start(host):
    """They run while systemd waits for slipwayd, and may take longer than a service may to start."""
    web = prepare(host, apps=[{"app": "web", "channel": "prod", "hook_users": ["root"]}])
    host.write("/etc/systemd/system/slipwayd.service.d/limit.conf", "[Service]\nTimeoutStartSec=500ms\n")
    host.run(["systemctl", "daemon-reload"])

    def hook(kind, then=":"):
        text = f"echo {kind} $(systemctl is-active slipwayd.service late.service) >>/run/hooks; {then}"
        return [{"command": ["/bin/sh", "-c", text], "user": "root"}]
    web.release(also={"hooks": {"pre": hook("pre", f"sleep {PAST_START_SEC}"), "post": hook("post")}})
    host.start_unit("late.service")
    assert host.read("/run/late") == "releases/r1\n"
    assert host.read("/run/hooks") == "pre activating inactive\npost activating inactive\n"
    web.assert_whole("r1")
    assert host.unit("slipwayd.service", "NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}


def due(host, *args):
    return host.run(["slipway", *args, "due", "web"], user="daemon", check=False)


def test_due(host):
    """Anybody may ask whether a deployment is to come."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    assert due(host).rc == NOT_RUNNING
    toy.start([web])
    web.wait_live("r1")
    wait_for(lambda: due(host).rc == NOT_DUE, toy.WAIT_SEC, "r1 to be all there is")
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    web.wait_phase("restarting", "r2")
    assert due(host).rc == 0
    web.open_gate()
    web.wait_live("r2")
    result = due(host, "--json")
    assert result.rc == NOT_DUE
    assert json.loads(result.stdout) == {"app": "web", "due": False, "text": "deployment 2 (release r2) is live"}
    host.run(["slipway", "rollback", "web"])
    assert due(host).rc == NOT_DUE
    host.run(["mv", "/srv/store", "/srv/gone"])
    wait_for(lambda: due(host).rc == 1, toy.WAIT_SEC, "the store to be missed")
    assert "the store" in due(host).stderr
