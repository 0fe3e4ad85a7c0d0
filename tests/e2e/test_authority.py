"""slipwayd on D-Bus as other programs see it, and who may call what."""

import json
import subprocess
import xml.etree.ElementTree

import pytest

import slipway
import toy
from waiting import wait_for

NAME, OBJECT, INTERFACE = "org.slipway.Agent", "/org/slipway/Agent/app/web", "org.slipway.App"
# the language of polkit since 0.106, and that before it
RULES = """\
polkit.addRule(function(action, subject) {
        if (action.id == "org.slipway.rollback" && subject.user == "daemon")
                return polkit.Result.YES;
});
"""
OLD_RULES = "[daemon]\nIdentity=unix-user:daemon\nAction=org.slipway.rollback\nResultAny=yes\n"


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


def busctl(host, *args, **options):
    return host.run(["busctl", "--system", *args], **options)


def call(host, method, *args, **options):
    return busctl(host, "call", NAME, OBJECT, INTERFACE, method, *args, **options)


def get(host, name):
    return json.loads(busctl(host, "--json=short", "get-property", NAME, OBJECT, INTERFACE, name).stdout)["data"]


def test_what_busctl_shows(web):
    host = web.host
    text = busctl(host, "introspect", "--xml-interface", NAME, OBJECT).stdout
    tree = xml.etree.ElementTree.fromstring(text).find(f"interface[@name='{INTERFACE}']")
    methods = {m.get("name"): [(a.get("name"), a.get("type"), a.get("direction")) for a in m.iter("arg")]
               for m in tree.iter("method")}
    assert methods["Rollback"] == [("release", "s", "in"), ("by", "s", "in"), ("release", "s", "out")]
    assert all(name for arguments in methods.values() for name, _, _ in arguments), methods
    properties = {p.get("name"): p.get("access") for p in tree.iter("property")}
    assert {"Name", "Channel", "Phase", "Release", "Pinned", "Failed"} <= properties.keys()
    assert set(properties.values()) == {"read"}
    assert OBJECT in busctl(host, "tree", "--list", NAME).stdout.split()
    assert [get(host, name) for name in ("Name", "Channel", "Phase", "Release", "Pinned")] == ["web", "prod", "idle", "r2", ""]

    # ends by itself where what is waited for does not come
    with host.popen(["timeout", toy.WAIT_SEC, "busctl", "--system", "--json=short", "monitor", NAME], stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as monitor:
        assert "Monitoring" in monitor.stderr.readline()
        assert json.loads(call(host, "Rollback", "ss", "", "somebody", "--json=short").stdout)["data"] == ["r1"]
        seen = {}
        while (seen.get("Release"), seen.get("Pinned")) != ("r1", "r1"):
            message = json.loads(monitor.stdout.readline())
            if message.get("member") == "PropertiesChanged":
                interface, values, _ = message["payload"]["data"]
                seen |= {name: value["data"] for name, value in values.items()} if interface == INTERFACE else {}
    assert (get(host, "Release"), get(host, "Pinned")) == ("r1", "r1")
    assert web.state()["history"][-1]["by"] == "somebody"


def test_polkit(web):
    """As installed an ordinary user may do nothing; a rule gives one user one thing."""
    host = web.host
    for user in ("daemon", "bin"):
        denied = call(host, "Rollback", "ss", "", "me", user=user, check=False)
        assert denied.rc != 0 and slipway.current(host) == "r2", denied
    host.write("/etc/polkit-1/rules.d/50-test.rules", RULES)
    host.write("/etc/polkit-1/localauthority/50-local.d/test.pkla", OLD_RULES)
    # polkit sees by itself that its rules changed, some time later
    wait_for(lambda: call(host, "Rollback", "ss", "r1", "me", user="daemon", check=False).rc == 0, toy.WAIT_SEC,
             "polkit to allow it")
    web.assert_whole("r1")
    assert host.run(["slipway", "rollback", "web", "r2"], user="daemon").rc == 0
    web.assert_whole("r2")
    for method in ("Poll", "Resume"):
        assert call(host, method, user="daemon", check=False).rc != 0
    assert call(host, "Rollback", "ss", "r1", "me", user="bin", check=False).rc != 0
    # for no action of polkit; no method at all
    for method in ("DeployFiles", "Unknown"):
        refused = call(host, method, user="daemon", check=False)
        assert refused.rc != 0 and "denied" in refused.stderr, refused
    assert busctl(host, "set-property", NAME, OBJECT, INTERFACE, "Phase", "s", "idle", user="daemon", check=False).rc != 0
    host.wait_journal(r"polkit allows it to uid", unit="slipwayd.service")

    host.run(["systemctl", "mask", "--now", "--runtime", "polkit.service"])
    refused = host.run(["slipway", "rollback", "web", "r1"], user="daemon", check=False)
    assert refused.rc != 0 and "only root" in refused.stderr, refused
    assert slipway.current(host) == "r2" and web.running() == "r2"
    assert host.run(["slipway", "rollback", "web", "r1"]).rc == 0
    web.assert_whole("r1")


def test_polkit_hangs(web):
    """Root is not kept waiting, nor is the rest of slipwayd."""
    host = web.host
    assert call(host, "Resume", user="daemon", check=False).rc != 0
    pid = wait_for(lambda: host.run(["pgrep", "-x", "polkitd"], check=False).stdout.strip(), toy.WAIT_SEC, "polkitd to run")
    host.run(["kill", "-STOP", pid])
    with host.popen(["busctl", "--system", "call", NAME, OBJECT, INTERFACE, "Resume"], user="daemon",
                    stderr=subprocess.PIPE) as waiting:
        assert host.run(["slipway", "rollback", "web"]).rc == 0
        web.assert_whole("r1")
        assert waiting.poll() is None
        host.run(["kill", "-CONT", pid])
        assert "failed" in waiting.stderr.read().lower()
    assert web.state()["pinned"]["release"] == "r1"


N_CALLS, N_HELD_BACK = 40, 8


def test_one_user_asks_too_often(web):
    """While polkit hangs: the user is told so, others wait in turn, and root is never refused."""
    host = web.host
    assert call(host, "Resume", user="daemon", check=False).rc != 0
    pid = wait_for(lambda: host.run(["pgrep", "-x", "polkitd"], check=False).stdout.strip(), toy.WAIT_SEC, "polkitd to run")
    host.run(["kill", "-STOP", pid])
    ask = f"busctl --system call {NAME} {OBJECT} {INTERFACE} Resume"
    many = ["sh", "-c", f"for i in $(seq {N_CALLS}); do {ask} & done; wait"]
    with host.popen(many, user="daemon", stderr=subprocess.PIPE) as asking:
        for _ in range(N_CALLS - N_HELD_BACK):
            assert "too many calls wait for polkit" in asking.stderr.readline()
        with host.popen(["sh", "-c", ask], user="bin", stderr=subprocess.PIPE) as other:
            assert host.run(["slipway", "rollback", "web"]).rc == 0
            assert asking.poll() is None and other.poll() is None
            host.run(["kill", "-CONT", pid])
            assert "too many" not in other.stderr.read()
    web.assert_whole("r1")
