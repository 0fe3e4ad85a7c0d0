"""The attacks on update systems that The Update Framework lists (https://theupdateframework.io/security/), each tried on a
running host by somebody who has what TUF assumes: they may write every object of the store and answer in its place, have all
manifests that were ever signed, and one key of several. After each, what runs is untouched and nothing is left behind, status and
journal say why, and the agent takes the next good manifest by itself (follower.undisturbed()).

| attack | test |
|---|---|
| arbitrary software installation | test_arbitrary_software; what is altered: test_bad_artifact.py, test_bad_manifest.py |
| rollback | test_rollback; of trust roots: test_trust.py::test_never_back |
| fast-forward | test_fast_forward, test_fast_forward_by_a_stolen_key |
| indefinite freeze | test_freeze, test_frozen_by_a_mirror; of trust roots: test_trust.py::test_roots_are_withheld, ::test_expired |
| endless data | test_endless_data; what it costs: test_hostile_server.py |
| slow retrieval | test_slow_retrieval; overtaken: test_bad_server.py::test_newer_release_overtakes_a_stalled_one |
| extraneous dependencies | test_extraneous_software; a file that the index does not have: test_bad_artifact.py::test_hostile_archive |
| mix-and-match | test_mix_and_match; in one object: test_bad_server.py::test_object_that_changes_between_two_ranges |
| wrong software installation | test_replay: onto another application, another channel |
| malicious mirrors | test_mirror_that_lies; an ETag that lies: test-fetch.c |
| vulnerability to key compromises | test_one_key_of_two; revoked, or a root key: test_trust.py::test_stolen_key, ::test_lies |
| wrong time (not on the list) | test_clock_that_is_wrong, test_clock_set_back_to_an_old_manifest |
| the same serial with other content (not on the list) | test_bad_manifest.py::test_refused |
"""

import base64
import dataclasses
import json
import os
import pathlib
import threading

import pytest

import fault_proxy as faults
import follower as follower_module
import formats
import hostile
import sandbox
from formats import Entry
from waiting import wait_for

MANIFEST = r"/channels/prod/manifest\.json"
INDEX = r"/releases/[^/]+/index"
ARTIFACT = r"/artifact\.tar\.zst"
SERIAL_MAX = (1 << 53) - 1
SLOW_SEC = 120  # four tries, each of which moves too little for 15 s
FREEZE_SEC = 30  # in which a release is published, polled, fetched and live, on a busy machine
EXPIRED_SEC = FREEZE_SEC + follower_module.REFUSE_TIMEOUT_SEC


@pytest.fixture(scope="module")
def follower(make_follower, proxy):
    """Two of three keys must sign; the third one is nobody's here."""
    follower = make_follower(proxy.endpoint)
    follower.keys = [formats.Key.new(), formats.Key.new("ecdsa-p256")]
    follower.threshold = 2
    follower.start()
    follower.good()
    return follower


@pytest.fixture(autouse=True)
def no_faults(proxy):
    yield
    proxy.clear()


def digests(release):
    return [release.payload["release"][name]["sha256"] for name in ("artifact", "index")]


def put_objects(follower, place, release):
    """Writes the objects of one release where those of `place`, the manifest's "release", are to be."""
    follower.store.put(place["artifact"]["path"], release.artifact)
    follower.store.put(place["index"]["path"], release.index)


def history(follower, serial):
    return follower.store.get(f"web/channels/prod/history/{serial}.json")


# -- arbitrary software installation

def test_arbitrary_software(follower):
    """A release of the attacker's own, whole and consistent, under a manifest by their own keys, with our keys' ids."""
    with follower.undisturbed(then_good=False):
        release = follower.make(more=[Entry("evil", content=b"#!/bin/sh\n", mode=0o755)])
        put_objects(follower, release.payload["release"], release)
        body = formats.envelope(formats.MANIFEST_TYPE, release.payload, [formats.Key.new(), formats.Key.new("ecdsa-p256")])
        follower.put_manifest(body)
        follower.wait_refused(r"can't be trusted: signed only by keys that are not in the trust root")
    # the same under an honest manifest, whose objects were exchanged
    honest = follower.make()
    with follower.undisturbed():
        follower.publish(dataclasses.replace(honest, index=release.index, artifact=release.artifact))
        follower.wait_failed(honest, r"index is not the one that was signed|the object at \S+ has \d+ bytes", condemned=False)


# -- rollback

def test_rollback(follower):
    """Each old manifest of the channel, with the objects that it had; also to an agent that was started anew."""
    oldest, before = history(follower, follower.lived[0]), history(follower, follower.lived[-2])
    follower.host.run(["systemctl", "restart", "slipwayd.service"])
    with follower.undisturbed():
        for body in (oldest, before):
            follower.cursor = follower.host.journal_cursor()
            follower.put_manifest(body)
            follower.wait_refused(r"serial is \d+, but \d+ was seen before: an old manifest was put back")


# -- fast-forward

def test_fast_forward(follower):
    """By one key of two, and with a serial that was raised afterwards: what was seen stays what it is, or the good release that
    comes then would not be taken."""
    release = follower.make()
    release.payload["serial"] = release.payload["deployment"] = SERIAL_MAX
    with follower.undisturbed(then_good=False):
        follower.put_manifest(formats.envelope(formats.MANIFEST_TYPE, release.payload, follower.keys[:1]))
        follower.wait_refused(r"can't be trusted: .*1 of 2")
    with follower.undisturbed():
        outer = json.loads(history(follower, follower.lived[-1]))
        outer["payload"] = base64.b64encode(formats.as_bytes(release.payload)).decode()
        follower.put_manifest(formats.as_bytes(outer))
        follower.wait_refused(r"can't be trusted: signature of key \S+ does not match")


# -- indefinite freeze

def expiring(follower):
    """A release that is live, and whose manifest expires soon."""
    release = follower.make().altered(expires=formats.after(seconds=FREEZE_SEC))
    follower.publish(release)
    follower.wait_live(release)
    return release


EXPIRED = r"the manifest expired at \S+: sign it anew \('slipway-publish refresh'\) or publish again, or check this host's clock"


def test_freeze(follower):
    """The store is left as it is."""
    expiring(follower)
    with follower.undisturbed():
        follower.wait_refused(EXPIRED, EXPIRED_SEC)


def test_frozen_by_a_mirror(follower, proxy):
    """Who answers in place of the store says that nothing has changed, whatever was published."""
    expiring(follower)
    with follower.undisturbed(then_good=False):
        proxy.fault(MANIFEST, faults.Answer(304, body=b""))
        release = follower.make()
        follower.publish(release)
        follower.wait_refused(EXPIRED, EXPIRED_SEC)
        proxy.clear()
    follower.wait_live(release)


# -- endless data, slow retrieval

ENDLESS = {
    "manifest": (MANIFEST, r"sent more than the limit of 262144 bytes"),
    "index": (INDEX, r"can't fetch the index of release \S+: .*sent more than the part that was asked for|status 200"),
    "artifact": (ARTIFACT, r"can't fetch the artifact of release \S+: .*(sent more than|status 200)"),
}
SENT_MAX_BYTES = 32 << 20  # what is on its way when the client hangs up, of all tries


@pytest.mark.parametrize("what", ENDLESS)
def test_endless_data(follower, proxy, what):
    pattern, said = ENDLESS[what]
    release = follower.make()
    endless = hostile.endless_body()
    with follower.undisturbed(digests(release)):
        proxy.fault(pattern, endless)
        follower.publish(release)
        if what == "manifest":
            follower.wait_refused(said)
        else:
            follower.wait_failed(release, said, condemned=False)
        assert endless.n_sent < SENT_MAX_BYTES
        proxy.clear()


@dataclasses.dataclass
class Drip(faults.Fault):
    """Passes the server's answer on, a byte a second."""

    def after(self, handler, answer):
        def pieces():
            for piece in answer.pieces:
                for at in range(len(piece)):
                    yield piece[at:at + 1]
                    handler.hold(threading.Event(), 1)
        return faults.Upstream(answer.status, answer.headers, pieces(), answer.length)


@pytest.mark.parametrize("what", ["manifest", "artifact"])
def test_slow_retrieval(follower, proxy, what):
    release = follower.make()
    with follower.undisturbed(digests(release)):
        proxy.fault(MANIFEST if what == "manifest" else ARTIFACT, Drip())
        follower.publish(release)
        said = r"does not answer in time: .*too slow"
        if what == "manifest":
            follower.wait_refused(said, SLOW_SEC)
        else:
            follower.wait_failed(release, rf"can't fetch the artifact of release \S+: .*{said}", condemned=False,
                                 timeout_sec=SLOW_SEC)
        proxy.clear()


# -- extraneous dependencies, mix-and-match

def test_extraneous_software(follower):
    """What is appended to a release is not asked for; what a manifest is to bring along besides is nobody's but its signers'."""
    with follower.undisturbed(then_good=False):
        release = follower.make()
        body = follower.sign(release.payload)
        outer = json.loads(body)
        units = [*follower_module.ACTIVATE["units"], {"name": "web@extra.service", "action": "start"}]
        more = release.altered(activate={**release.payload["activate"], "units": units})
        outer["payload"] = base64.b64encode(formats.as_bytes(more.payload)).decode()
        follower.put_manifest(formats.as_bytes(outer))
        follower.wait_refused(r"can't be trusted: signature of key \S+ does not match")
    extra, _ = formats.make_artifact([Entry("extra", content=b"trusted elsewhere\n")])
    put_objects(follower, release.payload["release"], dataclasses.replace(release, artifact=release.artifact + extra))
    follower.store.put("web/channels/prod/history/{}.json".format(release.payload["serial"]), body)
    follower.put_manifest(body)
    follower.wait_live(release)
    assert not follower.host.exists("/srv/web/current/extra")
    follower.assert_nothing_left()


@pytest.mark.parametrize("what", ["index", "artifact", "both"])
def test_mix_and_match(follower, what):
    """Objects of an earlier release of the same channel, each signed once."""
    earlier = follower.good()
    release = follower.make(more=[Entry("new", content=os.urandom(1000))])
    mixed = dataclasses.replace(release, **{name: getattr(earlier, name) for name in ("index", "artifact")
                                            if what in (name, "both")})
    said = {"artifact": r"artifact of release \S+: .*has \d+ bytes, at least \d+ are expected|"
                        r"frame \d+ of the artifact is not the one that was signed"}
    with follower.undisturbed(digests(release)):
        follower.publish(mixed)
        follower.wait_failed(release, said.get(what, r"index of release \S+: .*has \d+ bytes, at least \d+ are expected|"
                                                     r"index is not the one that was signed"), condemned=False)


# -- wrong software installation

@pytest.mark.parametrize("app, channel, said", [("api", "prod", "for app api, not web"),
                                                ("web", "staging", "for channel staging, not prod")],
                         ids=["another_application", "another_channel"])
def test_replay(follower, app, channel, said):
    """A manifest that was published, for others: with a newer serial than ours, and all its objects where it says."""
    with follower.undisturbed():
        other = formats.make_release(follower.entries("other"), "other", app=app, channel=channel, serial=follower.n_releases + 50,
                                     deployment=follower.n_releases + 50, activate=follower_module.ACTIVATE)
        formats.publish(follower.store, other, follower.keys, app=app, channel=channel)
        follower.put_manifest(follower.store.get(formats.manifest_path(app, channel)))
        follower.wait_refused(rf"the manifest is {said}")


# -- vulnerability to key compromises

def by_the_same_key_twice(follower, payload):
    return formats.envelope(formats.MANIFEST_TYPE, payload, follower.keys[:1] * 2)


def by_one_key_under_two_ids(follower, payload):
    outer = json.loads(by_the_same_key_twice(follower, payload))
    outer["signatures"][1]["keyid"] = follower.keys[1].id
    return formats.as_bytes(outer)


def with_a_signature_of_another_manifest(follower, payload):
    """The other key's, which is real."""
    outer = json.loads(formats.envelope(formats.MANIFEST_TYPE, payload, follower.keys[:1]))
    outer["signatures"].append(json.loads(history(follower, follower.lived[-1]))["signatures"][1])
    return formats.as_bytes(outer)


ONE_KEY = {
    "alone": lambda f, p: formats.envelope(formats.MANIFEST_TYPE, p, f.keys[1:]),
    "twice": by_the_same_key_twice,
    "under two ids": by_one_key_under_two_ids,
    "with a stranger": lambda f, p: formats.envelope(formats.MANIFEST_TYPE, p, [f.keys[0], formats.Key.new()]),
    "with a signature of another manifest": with_a_signature_of_another_manifest,
}


@pytest.mark.parametrize("how", ONE_KEY)
def test_one_key_of_two(follower, how):
    with follower.undisturbed():
        release = follower.make()
        put_objects(follower, release.payload["release"], release)
        follower.put_manifest(ONE_KEY[how](follower, release.payload))
        follower.wait_refused(r"the manifest can't be trusted: ")


# -- malicious mirrors

def test_mirror_that_lies(follower, proxy):
    """It keeps back what is new, by any answer; what it told is forgotten once another one is asked."""
    answers = [faults.Answer(404, "NoSuchKey"), faults.Answer(304, body=b""),
               faults.Answer(200, headers={"ETag": '"mirror"'}, body=history(follower, follower.lived[0]))]
    with follower.undisturbed(then_good=False):
        release = follower.make()
        follower.publish(release)
        for answer in answers:
            proxy.clear()
            rule = proxy.fault(MANIFEST, answer)
            wait_for(lambda rule=rule: len(rule.hits) >= 2, follower_module.REFUSE_TIMEOUT_SEC, "two polls")
        follower.wait_refused(r"an old manifest was put back")
        proxy.clear()
    follower.wait_live(release)


# -- last, for the channel is used up by it

def test_fast_forward_by_a_stolen_key(follower):
    """Enough keys can use a channel's serials up. Another channel of the same host is taken from there, as the guide says."""
    release = follower.make()
    release.payload["serial"] = SERIAL_MAX
    follower.publish(release)
    follower.wait_live(release)
    with follower.undisturbed(then_good=False):
        good = follower.make()
        follower.publish(good)
        follower.wait_refused(rf"serial is \d+, but {SERIAL_MAX} was seen before")
    good = follower.make().altered(channel="prod-2")
    formats.publish(follower.store, good, follower.keys, channel="prod-2")
    follower.configure(apps=[{"app": "web", "channel": "prod-2", "root": "/srv/web"}])
    follower.host.run(["systemctl", "restart", "slipwayd.service"])
    follower.wait_live(good)
    follower.assert_nothing_left()


# -- wrong time

DAY_SEC = 24 * 3600
SET_BACK_SEC = 10 * 60  # not so far that the manifest would be from the future


@pytest.fixture(scope="module")
def clocked(make_module_hosts, tmp_path_factory):
    """A host whose slipwayd has a clock of its own (wrong-clock.c)."""
    [host] = make_module_hosts(1)
    library = tmp_path_factory.mktemp("clock") / "wrong-clock.so"
    sandbox.run("cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(pathlib.Path(__file__).with_name("wrong-clock.c")))
    host.write(f"/usr/lib/{library.name}", library.read_bytes())
    host.write("/etc/systemd/system/slipwayd.service.d/clock.conf", f"[Service]\nEnvironment=LD_PRELOAD=/usr/lib/{library.name}\n")
    (host.work / "srv/store").mkdir()
    follower = follower_module.Follower(host, formats.FileStore(host.work / "srv/store"), tmp_path_factory.mktemp("clock") / "tree",
                                        url="file:///srv/store")
    follower.start()
    follower.good()
    return follower


def set_clock(follower, ahead_sec):
    follower.host.write("/run/wrong-clock", f"{ahead_sec}\n")


WRONG_CLOCKS = {
    "behind": (-2 * DAY_SEC, r"the manifest was published at \S+, and here it is only \S+: check this host's clock"),
    "ahead": (60 * DAY_SEC, EXPIRED),
}


@pytest.mark.parametrize("how", WRONG_CLOCKS)
def test_clock_that_is_wrong(clocked, how):
    """What is good is refused for now, and taken once the clock is right."""
    ahead_sec, said = WRONG_CLOCKS[how]
    with clocked.undisturbed(then_good=False):
        set_clock(clocked, ahead_sec)
        release = clocked.make()
        clocked.publish(release)
        clocked.wait_refused(said)
        set_clock(clocked, 0)
    clocked.wait_live(release)
    clocked.assert_nothing_left()


def test_clock_set_back_to_an_old_manifest(clocked):
    """Who has the host's clock as well makes an old manifest seem fresh, and it is taken where nothing newer was seen; but what was
    seen is newer nevertheless."""
    old = expiring(clocked)
    clocked.cursor = clocked.host.journal_cursor()
    clocked.wait_refused(EXPIRED, EXPIRED_SEC)
    set_clock(clocked, -SET_BACK_SEC)
    wait_for(lambda: clocked.status()["poll"]["ok"], follower_module.REFUSE_TIMEOUT_SEC, "the old manifest to seem fresh")
    set_clock(clocked, 0)
    clocked.wait_refused(EXPIRED)
    clocked.good()
    with clocked.undisturbed(then_good=False):
        set_clock(clocked, -SET_BACK_SEC)
        clocked.put_manifest(history(clocked, old.payload["serial"]))
        clocked.wait_refused(r"an old manifest was put back")
        set_clock(clocked, 0)
    clocked.good()
