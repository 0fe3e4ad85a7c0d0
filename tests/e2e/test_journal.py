"""slipwayd's entries in the journal: their ids, their fields, and what `journalctl -x` explains of them."""

import json
import pathlib
import re
import types

import formats
import slipway
import toy
from waiting import wait_for

SOURCE = pathlib.Path(__file__).parents[2]
IDS = dict(re.findall(r'^#define JOURNAL_(\w+) "(\w+)"$', (SOURCE / "agent/journal-id.h").read_text(), re.M))
NAMES = {number: name for name, number in IDS.items()}


def entries(host):
    """Those with an id of ours, oldest first: (name, entry)."""
    host.run(["journalctl", "--sync"])
    lines = host.run(["journalctl", "--quiet", "--output=json", "--unit=slipwayd.service"]).stdout.splitlines()
    return [(NAMES[entry["MESSAGE_ID"]], entry) for entry in map(json.loads, lines) if entry.get("MESSAGE_ID") in NAMES]


def wait_entry(host, name, count=1, text=""):
    """The count-th entry of this name whose message has this text."""
    def look():
        found = [entry for n, entry in entries(host) if n == name and text in entry["MESSAGE"]]
        return found[count - 1] if len(found) >= count else None
    return wait_for(look, 40, f"{name} in the journal")


def assert_fields(entry, **fields):
    assert {name: entry.get(f"SLIPWAY_{name.upper()}") for name in fields} == fields, entry
    assert entry["_SYSTEMD_UNIT"] == "slipwayd.service" and entry["_UID"] == "0"


def test_ways(web):
    host = web.host
    assert_fields(wait_entry(host, "BEGINS"), app="web", channel="prod", release="r1", deployment="1", serial="1")
    assert_fields(wait_entry(host, "LIVE"), app="web", release="r1", deployment="1", serial="1", phase="baking")
    # taken back
    web.release(toy.CRASHING)
    web.wait_failed("r2")
    entry = wait_entry(host, "TAKEN_BACK")
    assert_fields(entry, app="web", release="r2", deployment="2", serial="2")
    assert entry["PRIORITY"] == "3" and "exit status 7" in entry["MESSAGE"]
    assert_fields(wait_entry(host, "UNDONE"), app="web", release="r2", deployment="2", phase="reverting")
    # held, and by hand
    host.run(["slipway", "hold", "web", "--reason", "the audit"])
    entry = wait_entry(host, "HELD")
    assert_fields(entry, app="web", release="r1", deployment="1", serial="1", phase="idle")
    assert "the audit" in entry["MESSAGE"]
    host.run(["slipway", "resume", "web"])
    wait_entry(host, "RESUMED")
    web.release()
    web.wait_live("r3")
    host.run(["slipway", "rollback", "web", "r1"])
    assert_fields(wait_entry(host, "BEGINS", text="root rolls back to"), app="web", release="r1", serial="1")
    # what was live before cannot come back
    host.run(["slipway", "resume", "web"])
    web.wait_live("r3")
    host.write("/etc/systemd/system/web.service.d/broken.conf", "[Service]\nExecStartPre=/bin/false\n")
    host.run(["systemctl", "daemon-reload"])
    web.release()
    web.wait(lambda s: s["phase"] == "idle" and s.get("down"), "to be down")
    entry = wait_entry(host, "DOWN")
    assert_fields(entry, app="web", release="r4", deployment="4")
    assert entry["PRIORITY"] == "2"

    # what it all means
    host.run(["journalctl", "--update-catalog"])
    shown = host.run(["journalctl", "--catalog", "--no-pager", "--unit=slipwayd.service"]).stdout
    for text in ("Subject: App web: release r2 is taken back", "slipway resume web", "Subject: App web is down",
                 "Defined-By: Slipway", "Subject: App web: release r1 is live"):
        assert text in shown, shown
    listed = host.run(["journalctl", "--list-catalog", "--no-pager"]).stdout
    assert all(number in listed for number in IDS.values())


def test_polls(web):
    host = web.host
    # the store is gone, and comes back
    host.run(["mv", "/srv/store", "/srv/away"])
    entry = wait_entry(host, "POLL_FAILED")
    assert_fields(entry, app="web", release="r1")
    assert entry["PRIORITY"] == "4"
    host.run(["mv", "/srv/away", "/srv/store"])
    wait_entry(host, "POLL_WELL")
    # a manifest of somebody else
    good = web.store.get("web/channels/prod/manifest.json")
    formats.publish(web.store, formats.make_release(toy.entries("r2", toy.GOOD), "r2", serial=2, deployment=2),
                    [formats.Key.new()])
    entry = wait_entry(host, "REFUSED")
    assert_fields(entry, app="web", release="r1")
    assert "not in the trust root" in entry["MESSAGE"]
    web.store.put("web/channels/prod/manifest.json", good)
    wait_entry(host, "POLL_WELL", 2)
    # an older one than before
    web.n_releases = 4
    web.release()
    web.wait_live("r5")
    web.store.put("web/channels/prod/manifest.json", good)
    wait_entry(host, "REFUSED", 2)
    assert slipway.current(host) == "r5"


def test_halted(web):
    """Two events at once: the store is back, and what it says is that the channel is halted."""
    host = web.host
    store, halt = web.store, b'{"halted": true, "by": "ann", "reason": "the fair"}'
    web.store = types.SimpleNamespace(put=lambda path, data: store.put(path, halt if path.endswith("/halt.json") else data))
    web.release()
    assert "the fair" in wait_entry(host, "HALTED")["MESSAGE"]
    host.run(["mv", "/srv/store", "/srv/away"])
    wait_entry(host, "POLL_FAILED")
    host.run(["mv", "/srv/away", "/srv/store"])
    wait_entry(host, "POLL_WELL")
    wait_entry(host, "HALTED", 2)


def test_no_start(web):
    host = web.host
    host.write("/etc/slipway/agent.json", "{ }\n")
    host.run(["systemctl", "restart", "slipwayd.service"], check=False)
    entry = wait_entry(host, "NO_START")
    assert "agent.json" in entry["MESSAGE"] and entry["PRIORITY"] == "3"
    assert not [name for name in entry if name.startswith("SLIPWAY_")]
