"""`slipway deploy`: a release that comes as files, to a host whose store can't be reached."""

import json

import pytest

import formats
import slipway
import toy

STICK = "/root/stick"  # where slipwayd itself can't look
MANIFEST, ARTIFACT, INDEX = f"{STICK}/manifest.json", f"{STICK}/artifact.tar.zst", f"{STICK}/index"
PROVENANCE = f"{STICK}/provenance.json"
NO_SUCH, NOT_HELD = 3, 4
ENOUGH = 8  # provenances beside five others: one too many


def make(n, script=toy.GOOD, *, app="web", serial=None, units=True, **options):
    activate = {"health": {"bake": "100ms", "deadline": "10min"}}
    if units:
        activate["units"] = [{"name": "web.service", "action": "restart"}]
    return formats.make_release(toy.entries(f"r{n}", script), f"r{n}", app=app, serial=serial or n, deployment=n,
                                activate=activate, **options)


def bring(web, release, key=None):
    """The files of a release on the host."""
    envelope = formats.envelope(formats.MANIFEST_TYPE, release.payload, [key or web.key])
    for path, data in ((MANIFEST, envelope), (ARTIFACT, release.artifact), (INDEX, release.index)):
        web.host.write(path, data, mode=0o600)


def deploy(web, *options, app="web", file=ARTIFACT, manifest=MANIFEST, **run):
    return web.host.run(["slipway", "--json", "deploy", app, "--file", file, "--manifest", manifest, "--wait", *options], **run)


def answer(result):
    return json.loads(result.stdout)


@pytest.fixture
def web(host):
    """r1 is live, from files; there is no store."""
    web = toy.Toy(host, None)
    toy.start([web], url="file:///srv/absent", tags={"Role": "web"})
    bring(web, make(1))
    assert answer(deploy(web)) == {"app": "web", "release": "r1"}
    web.assert_whole("r1")
    return web


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_from_files(web, how):
    host = web.host
    bring(web, make(2))
    if how == "stopped":
        host.stop_unit("slipwayd.service")
    assert answer(deploy(web)) == {"app": "web", "release": "r2"}
    assert slipway.current(host) == "r2" and web.running() == "r2"
    assert answer(deploy(web)) == {"app": "web", "release": "r2"}
    # The index may lie elsewhere.
    bring(web, make(3))
    host.run(["mv", INDEX, "/root/other"])
    without = deploy(web, check=False)
    assert without.rc == 1 and "--index" in without.stderr
    assert answer(deploy(web, "--index", "/root/other")) == {"app": "web", "release": "r3"}
    # One that does not run is taken back, and not tried again.
    bring(web, make(4, toy.CRASHING))
    result = deploy(web, check=False)
    assert result.rc == NOT_HELD and "exit status 7" in result.stderr and "live is r3" in result.stderr, result
    assert slipway.current(host) == "r3" and web.running() == "r3"
    again = deploy(web, check=False)
    assert again.rc == 1 and "went wrong here" in again.stderr
    if how == "stopped":
        host.start_unit("slipwayd.service")
    web.assert_whole("r3")
    assert [(e["release"], e["result"], e["by"]) for e in web.state()["history"]] == [
        ("r1", "done", "root"), ("r2", "done", "root"), ("r3", "done", "root"), ("r4", "reverted", "root")]


def test_without_waiting(web):
    bring(web, make(2))
    result = web.host.run(["slipway", "--json", "deploy", "web", "--file", ARTIFACT, "--manifest", MANIFEST])
    assert answer(result) == {"app": "web", "text": "deployment 2 (release r2) begins"}
    web.assert_whole("r2")


def test_outside_the_window(web):
    """Who brings it is there to see what comes of it."""
    bring(web, make(2, window=[toy.closed_window()]))
    assert answer(deploy(web)) == {"app": "web", "release": "r2"}
    web.assert_whole("r2")


def altered(data):
    """One bit in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]


# Those that come past the signature use up their serial. Name: release to bring, key (None: the right one), what is done to the files then, what is said
BAD = {
    "signature": (lambda: make(2), formats.Key.new, None, "not in the trust root"),
    "application": (lambda: make(2, app="db"), None, None, "for app db"),
    "channel": (lambda: make(2, channel="test"), None, None, "for channel test"),
    "unit": (lambda: make(2).altered(activate={"units": [{"name": "ssh.service", "action": "restart"}]}), None, None,
             "ssh.service"),
    "serial": (lambda: make(2).altered(serial=1), None, None, "serial 1 was seen before with other content"),
    "expired": (lambda: make(2).altered(published="2019-01-01T00:00:00Z", expires="2020-01-01T00:00:00Z"), None, None, "expired"),
    "target": (lambda: make(2, targets={"any": [{"Role": ["db"]}]}), None, None, "not for this instance"),
    "artifact": (lambda: make(2, serial=4), None, (ARTIFACT, altered), "not what was signed"),
    "index": (lambda: make(2, serial=5), None, (INDEX, altered), "not the one that was signed"),
    "short": (lambda: make(2, serial=6), None, (ARTIFACT, lambda data: data[:-1]), "it is another one"),
    "json": (lambda: make(2), None, (MANIFEST, lambda data: data[:-9]), "envelope is broken"),
    "huge": (lambda: make(2), None, (MANIFEST, lambda data: data + b" " * 300000), "more than 262144"),
}


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_bad_files(web, how):
    """Refused, or given up before anything changed; then a good one is taken."""
    host = web.host
    if how == "stopped":
        host.stop_unit("slipwayd.service")
    for name, (release, key, change, text) in BAD.items():
        bring(web, release(), key() if key else None)
        if change:
            host.write(change[0], change[1](host.read_bytes(change[0])))
        result = deploy(web, check=False)
        assert (result.rc, result.stdout) == (1, "") and text in result.stderr, (name, result)
        assert slipway.current(host) == "r1" and web.running() == "r1", name
    bring(web, make(2, serial=7))
    host.run(["mkfifo", "/root/fifo"])
    for options, text in (({"file": "/root/fifo"}, "no regular file"), ({"manifest": "/root/fifo"}, "no regular file"),
                          ({"manifest": "/dev/zero"}, "no regular file"), ({"manifest": STICK}, "no regular file"),
                          ({"file": "/root/absent"}, "/root/absent")):
        result = deploy(web, check=False, **options)
        assert (result.rc, result.stdout) == (1, "") and text in result.stderr, (options, result)
    assert deploy(web, app="other", check=False).rc == NO_SUCH
    bring(web, make(2, serial=9))
    assert answer(deploy(web)) == {"app": "web", "release": "r2"}
    bring(web, make(3, serial=8))
    result = deploy(web, check=False)
    assert result.rc == 1 and "an old manifest was put back" in result.stderr
    if how == "stopped":
        host.start_unit("slipwayd.service")
    web.assert_whole("r2")


def test_held_off(web):
    """A rollback by hand is not overridden by what it was to hold off."""
    bring(web, make(2))
    deploy(web)
    web.host.run(["slipway", "rollback", "web"])
    result = deploy(web, check=False)
    assert result.rc == 1 and "by hand" in result.stderr
    web.assert_whole("r1")
    web.host.run(["slipway", "resume", "web"])
    assert answer(deploy(web)) == {"app": "web", "release": "r2"}
    web.host.run(["slipway", "rollback", "web"])
    bring(web, make(3))
    assert answer(deploy(web)) == {"app": "web", "release": "r3"}
    web.host.run(["slipway", "hold", "web", "--reason", "fair"])
    bring(web, make(4))
    result = deploy(web, check=False)
    assert result.rc == 1 and "fair" in result.stderr, result
    user = deploy(web, user="daemon", check=False)
    assert user.rc == 1
    web.assert_whole("r3")


def make_proven(web, n, **said):
    release = make(n)
    formats.add_provenance(release, formats.envelope(formats.STATEMENT_TYPE, formats.statement(release, **said), [web.key]))
    return release


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_where_provenance_is_asked_for(host, how):
    """It comes along as a file; without one the store is asked, which can't be reached here."""
    web = toy.Toy(host, None)
    web.config["provenance"] = {"builders": ["https://ci.example/*"]}
    toy.start([web], url="file:///srv/absent", tags={"Role": "web"})
    if how == "stopped":
        host.stop_unit("slipwayd.service")
    first, evil, fourth = make_proven(web, 1), make_proven(web, 3, builder="urn:x"), make_proven(web, 4)
    bring(web, first)
    result = deploy(web, check=False)
    assert result.rc == 1 and "can't fetch the provenance of release r1" in result.stderr, result
    host.write(PROVENANCE, first.provenance)
    assert answer(deploy(web)) == {"app": "web", "release": "r1"}
    for release, data, text in ((make(2), first.provenance, "the manifest names no provenance"),
                                (evil, evil.provenance, "it was built by urn:x"),
                                (evil, evil.provenance, "went wrong here"),
                                (fourth, altered(fourth.provenance), "can't fetch the provenance of release r4"),
                                (fourth, fourth.provenance[:-1], "can't fetch the provenance of release r4")):
        bring(web, release)
        host.write(PROVENANCE, data)
        result = deploy(web, check=False)
        assert (result.rc, result.stdout) == (1, "") and text in result.stderr, (text, result)
        assert slipway.current(host) == "r1" and web.running() == "r1"
    host.run(["rm", PROVENANCE])
    host.run(["mkfifo", PROVENANCE])
    result = deploy(web, check=False)
    assert result.rc == 1 and "no regular file" in result.stderr
    host.run(["rm", PROVENANCE])
    # Of several it is the one that the manifest names.
    for n, data in enumerate((evil.provenance, altered(fourth.provenance), fourth.provenance, b"")):
        host.write(f"{STICK}/provenance-{n}.json", data)
    host.write(PROVENANCE, first.provenance)
    for n in range(ENOUGH):
        host.write(f"{STICK}/provenance-more-{n}.json", "")
    result = deploy(web, check=False)
    assert result.rc == 1 and "there are more than 12 files provenance*.json beside the artifact" in result.stderr
    host.run(["rm", f"{STICK}/provenance-more-0.json"])
    assert answer(deploy(web)) == {"app": "web", "release": "r4"}
    # No rollback asks.
    host.run(["slipway", "rollback", "web"])
    if how == "stopped":
        host.start_unit("slipwayd.service")
    web.assert_whole("r1")
