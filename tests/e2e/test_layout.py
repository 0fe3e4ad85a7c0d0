"""What lies on a host besides the trees of releases: shared files that outlive them."""

import json
import random
import re

import formats
import toy
from waiting import wait_for

UPLOADS = {"path": "var/uploads", "create": "directory", "user": "daemon", "group": "daemon", "mode": "0750"}
SETTINGS = {"path": "config/local.env", "create": "file", "mode": "0600"}


def links(*shared):
    return {"links": {"shared": list(shared)}}


def wait_reason(web, release, pattern):
    """Waits until the release failed before the switch for this reason."""
    def reason():
        return next((e["reason"] for e in reversed(web.state()["history"])
                     if (e["release"], e["result"]) == (release, "failed")), None)
    found = wait_for(reason, toy.WAIT_SEC, f"{release} to fail")
    assert re.search(pattern, found), found


def stat(host, path):
    return host.run(["stat", "-c", "%F %U:%G %a", path]).stdout.strip()


def test_shared_links(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(also=links(UPLOADS, SETTINGS), more=[formats.Entry("var", type="d")])
    toy.start([web])
    web.assert_whole("r1")
    assert host.readlink("/srv/web/current/var/uploads") == "../../../shared/var/uploads"
    assert stat(host, "/srv/web/shared/var/uploads") == "directory daemon:daemon 750"
    assert stat(host, "/srv/web/shared/config/local.env") == "regular empty file root:root 600"
    assert stat(host, "/srv/web/shared/var") == "directory root:root 755"

    host.run(["sh", "-c", "echo precious >/srv/web/current/var/uploads/file; chmod 0700 /srv/web/shared/var/uploads"],
             user="daemon")
    more = [formats.Entry("var", type="d"), formats.Entry("var/uploads", type="d")]
    web.assert_whole(web.release(also=links(UPLOADS), more=more))
    assert host.read("/srv/web/current/var/uploads/file") == "precious\n"
    assert stat(host, "/srv/web/shared/var/uploads") == "directory daemon:daemon 700"

    # the same release, with another link
    web.release(again=2, also=links(UPLOADS, "log"), more=more)
    wait_reason(web, "r2", r"needs /srv/web/shared/log, which is missing: make it, or let")
    assert web.running() == "r2"
    host.run(["mkdir", "/srv/web/shared/log"])
    web.wait(lambda s: s["phase"] == "idle" and s["deployment"] == 3, "the other deployment of r2")
    web.assert_whole("r2")
    assert host.readlink("/srv/web/releases/r2/log") == "../../shared/log"
    assert stat(host, "/srv/web/releases/r2/log").startswith("symbolic link slipway-unpack:")


def test_shared_links_that_cannot_be(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")

    # in the release's own way: never tried again
    shipped = [formats.Entry("var", type="d"), formats.Entry("var/log", content=b"shipped")]
    web.release(also=links("var/log"), more=shipped)
    web.wait_failed("r2")
    assert "the release has a file at 'var/log'" in web.state()["failed"]["reason"]
    assert not host.exists("/srv/web/shared")

    web.release(also=links({**UPLOADS, "user": "nobody-knows"}))
    wait_reason(web, "r3", r"no user nobody-knows on this host, to which /srv/web/shared/var/uploads is to belong")
    assert not host.exists("/srv/web/shared")

    # who owns a shared directory can't lead root elsewhere
    host.run(["install", "-d", "-o", "daemon", "/srv/web/shared/data"])
    host.run(["ln", "-s", "/etc", "/srv/web/shared/data/sub"], user="daemon")
    web.release(also=links({"path": "data/sub/passwd-2", "create": "file"}))
    wait_reason(web, "r4", r"links are not followed")
    assert not host.exists("/etc/passwd-2")
    assert web.running() == "r1"
    web.assert_whole(web.release(also=links("data")))


def noise(n):
    return [formats.Entry("noise", content=random.Random(n).randbytes(3 << 20))]


def test_disk_budget(host):
    """Releases beyond the budget go, but for the live one and the one before it."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["disk"] = {"budget": "8M"}
    web.release(more=noise(1))
    toy.start([web])
    web.assert_whole("r1")
    web.assert_whole(web.release(more=noise(2)))
    assert [r["size"] >> 20 for r in web.state()["releases"]] == [3, 3]
    web.assert_whole(web.release(more=noise(3)))
    assert host.listdir("/srv/web/releases") == ["r2", "r3"]
    web.release(toy.CRASHING)
    web.wait_failed("r4")
    web.assert_whole("r3")
    assert host.listdir("/srv/web/releases") == ["r2", "r3", "r4"]


def test_disk_budget_of_what_is_shared(host):
    """It counts once, also when the release goes that had it first."""
    web = toy.Toy(host, toy.local_store(host))
    web.config |= {"disk": {"budget": "6M"}, "keep": 3}
    web.release(more=noise(1))
    toy.start([web])
    web.assert_whole("r1")
    for _ in range(3):
        web.assert_whole(web.release(more=noise(1)))
    assert host.listdir("/srv/web/releases") == ["r2", "r3", "r4"]
    assert [(r["size"] >> 20, r["own"] >> 20) for r in web.state()["releases"]] == [(3, 3), (3, 0), (3, 0)]
    web.assert_whole(web.release(more=noise(2)))
    assert host.listdir("/srv/web/releases") == ["r4", "r5"]


def verify(host, *args):
    done = host.run(["slipway", "--json", "verify", "web", *args], check=False)
    found = json.loads(done.stdout)
    assert done.rc == (0 if found["whole"] else 8), done
    return found


def test_nothing_signed_nothing_removed(host):
    """Where no signed order was carried out yet, what is there may be somebody else's."""
    web = toy.Toy(host, toy.local_store(host))
    web.config["keep"] = 2
    names = [f"x{n}" for n in range(4)]
    host.run(["mkdir", "-p", *(f"{web.root}/releases/{name}" for name in names)])
    toy.start([web])
    wait_for(lambda: "nothing was published" in web.status()["poll"]["text"], toy.WAIT_SEC, "the store to be asked")
    assert host.listdir(f"{web.root}/releases") == names
    web.release()
    web.wait_live("r1")
    wait_for(lambda: len(host.listdir(f"{web.root}/releases")) == 2, toy.WAIT_SEC, "what is too much to be removed")


def test_verify(host):
    web = toy.Toy(host, toy.local_store(host))
    web.release(also=links(UPLOADS))
    toy.start([web])
    web.assert_whole("r1")
    web.assert_whole(web.release(also=links(UPLOADS), more=[formats.Entry("link", type="l", link="name")]))
    found = verify(host)
    assert found == {"app": "web", "release": "r2", "whole": True, "entries": 4, "bytes": found["bytes"], "differences": 0,
                     "drift": []}
    assert "release r2 is as it was signed" in host.run(["slipway", "verify", "web"]).stdout

    host.run(["sh", "-c", "cd /srv/web/releases/r2 && sed -i s/sleep/sleeq/ run && rm link && ln -s /etc/passwd link &&"
                          "rm app && mkfifo -m 644 app && chown slipway-unpack: app && touch extra && chmod 600 name"])
    assert [(d["path"], d["kind"]) for d in verify(host, "r2")["drift"]] == [
        ("extra", "extra"), ("app", "type"), ("link", "owner"), ("link", "link"), ("name", "mode"), ("run", "content")]
    told = host.run(["slipway", "verify", "web"], check=False)
    assert told.rc == 8 and re.search(r"^name +mode +0644 +0600$", told.stdout, re.M)
    assert verify(host, "r1")["whole"]
    assert host.run(["slipway", "verify", "web", "r9"], check=False).rc == 3
    assert host.run(["slipway", "verify", "web"], check=False, user="daemon").rc == 1

    # as it says
    host.run(["rm", "-r", "/srv/web/releases/r2"])
    wait_for(lambda: host.exists("/srv/web/releases/r2"), toy.WAIT_SEC, "r2 to be deployed again")
    web.assert_whole("r2")
    assert verify(host)["whole"]


def wait_polled(web, pattern):
    wait_for(lambda: re.search(pattern, web.status()["poll"].get("text", "")), toy.WAIT_SEC, f"the poll to say {pattern!r}")


def test_what_is_live_is_gone(host):
    """`current` or the live release's tree is removed by hand: it is deployed again."""
    web = toy.Toy(host, toy.local_store(host))
    web.release(also=links(UPLOADS))
    toy.start([web])
    web.assert_whole("r1")
    for gone in ("/srv/web/current", "/srv/web/releases/r1", "/srv/web/current/var/uploads", "/srv/web"):
        cursor = host.journal_cursor()
        host.run(["rm", "-r", gone])
        host.wait_journal(r"to be deployed again: .* (is gone|lacks links)", unit="slipwayd.service", after=cursor)
        host.wait_journal(r"release r1 is live", unit="slipwayd.service", after=cursor)
        web.assert_whole("r1")
        assert host.exists("/srv/web/current/var/uploads/.")
    web.assert_whole(web.release())


def test_current_is_changed_by_hand(host):
    """To another release, or to something that is no link: it stays, and status says so, until the next deployment."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.assert_whole(web.release())
    pid = host.unit(web.unit, "MainPID")
    host.run(["ln", "-sfn", "releases/r1", "/srv/web/current"])
    wait_polled(web, r"release r2\) was made live here, but /srv/web/current was changed by hand to release r1")
    assert host.unit(web.unit, "MainPID") == pid and host.readlink("/srv/web/current") == "releases/r1"
    web.assert_whole(web.release())

    host.run(["sh", "-c", "rm /srv/web/current && mkdir /srv/web/current && touch /srv/web/current/mine"])
    wait_polled(web, r"/srv/web/current is no link to a release any more: move it away")
    assert host.run(["slipway", "rollback", "web"], check=False).rc != 0
    web.release()
    wait_reason(web, "r4", r"/srv/web/current is not a link to a release of Slipway: move it away first")
    assert host.exists("/srv/web/current/mine")
    host.run(["rm", "-r", "/srv/web/current"])
    web.assert_whole("r4")


DAMAGE = {
    "cut off": "head -c 100 {0} >{0}.new && mv {0}.new {0}",
    "with an unknown member": "sed -i '0,/{{/s//{{ \"later\": 1, /' {0}",
    "empty": "truncate -s 0 {0}",
    "removed": "rm {0}",
}


def test_state_file_is_damaged(host):
    """It is set aside, loudly, and rebuilt from the disk; what runs is not touched, and can be rolled back."""
    web = toy.Toy(host, toy.local_store(host))
    web.release()
    toy.start([web])
    web.assert_whole("r1")
    web.assert_whole(web.release())
    pid = host.unit(web.unit, "MainPID")
    for what, command in DAMAGE.items():
        host.run(["rm", "-rf", *[f"/var/lib/slipway/{n}" for n in host.listdir("/var/lib/slipway") if "damaged" in n]])
        host.stop_unit("slipwayd.service")
        host.run(["sh", "-euc", command.format("/var/lib/slipway/web.json")])
        cursor = host.journal_cursor()
        host.start_unit("slipwayd.service")
        wait_polled(web, r"deployment 2 \(release r2\) is live")
        if what != "removed":
            host.wait_journal(r"it was set aside, and the state of app web is rebuilt", unit="slipwayd.service", after=cursor)
            assert [n for n in host.listdir("/var/lib/slipway") if n.startswith("web.json.damaged-")], what
        assert host.unit(web.unit, "MainPID") == pid
        assert {r["release"] for r in web.state()["releases"]} == {"r1", "r2"}
        assert verify(host)["whole"]
    # also while it is used
    host.run(["sh", "-euc", DAMAGE["cut off"].format("/var/lib/slipway/web.json")])
    host.wait_journal(r"what this program remembers stays", unit="slipwayd.service")
    host.run(["slipway", "rollback", "web"])
    assert web.running() == "r1"
    web.assert_whole(web.release())


def test_state_file_is_newer(host):
    """Nothing is changed for its application, until the version that wrote it is there again; others go on."""
    store = toy.local_store(host)
    web, files = toy.Toy(host, store), toy.Toy(host, store, app="files")
    web.release()
    toy.start([web, files])
    web.assert_whole("r1")
    web.assert_whole(web.release())
    host.run(["slipway", "hold", "web"])
    path = "/var/lib/slipway/web.json"
    known = host.read(path)
    newer = json.dumps({"later": [1], **json.loads(known), "schema": "slipway/state/2"})
    host.write(path, newer, mode=0o600)
    pid = host.unit(web.unit, "MainPID")
    for restart in (False, True):
        if restart:
            host.run(["systemctl", "restart", "slipwayd.service"])
        web.release()
        wait_polled(web, r"by a newer version of Slipway \(slipway/state/2, this one knows slipway/state/1\).*install that version")
        assert re.search("newer version", web.status()["error"])
        for args in (["rollback", "web"], ["hold", "web"], ["resume", "web"], ["stage", "web"]):
            done = host.run(["slipway", *args], check=False)
            assert done.rc != 0 and "newer version" in done.stderr, done
        files.wait_live(files.release(units=False))
        assert host.read(path) == newer
        assert host.readlink("/srv/web/current") == "releases/r2" and host.unit(web.unit, "MainPID") == pid
    host.stop_unit("slipwayd.service")
    done = host.run(["slipway", "rollback", "web"], check=False)
    assert done.rc != 0 and "newer version" in done.stderr, done
    host.write(path, known, mode=0o600)
    host.start_unit("slipwayd.service")
    wait_polled(web, "but root holds it")
    assert web.state()["current"] == "r2" and len(web.state()["history"]) == 2
    host.run(["slipway", "resume", "web"])
    web.assert_whole("r4")
