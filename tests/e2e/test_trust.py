"""Trust roots that follow one another: keys that come and go, the bad days, and a store that lies about it."""

import base64
import json

import pytest

import fault_proxy
import formats
import slipway
import test_deploy_files
import toy
from waiting import wait_for

ROOT = "/etc/slipway/trust/root.json"
KEPT = "/var/lib/slipway/trust-root"
STEPS_MAX = 256  # of one walk
LOCK = "/srv/web/control/update.lock"
SLIPWAYD, ROUND_REFUSED = "/usr/lib/slipway/slipwayd", 5
WAIT_SEC = 30


def path(version):
    return f"trust/{version}.json"


class Chain:
    """A toy's chain of trust roots, by the second implementation: three root keys, two of which must sign."""

    def __init__(self, web, **options):
        self.web, self.people = web, [formats.Key.new(type) for type in ("ed25519", "ecdsa-p256", "ed25519")]
        self.last = self.make(1, [web.key], **options)
        self.image = self.last

    def make(self, version, keys, *, signers=None, root_keys=None, root_threshold=2, **options):
        signers = self.people[:2] if signers is None else signers
        return formats.trust_root(keys, signers=signers, version=version, root_keys=root_keys or self.people,
                                  root_threshold=root_threshold, **options)

    def extend(self, keys, **options):
        """The next one, into the store."""
        version = formats.root_payload(self.last)["version"] + 1
        self.last = self.make(version, keys, **options)
        self.web.store.put(path(version), self.last)
        return version

    def bring(self, data=None):
        """Into the image, so to say."""
        self.web.host.write(ROOT, data or self.image)


def started(host, **options):
    """(web, chain): r1 is live by the trust root of the image."""
    web = toy.Toy(host, toy.local_store(host))
    chain = Chain(web, **options)
    web.release()
    toy.configure([web])
    chain.bring()
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")
    return web, chain


def trust(host):
    return slipway.status(host)["trust"]


def poll(web):
    """By hand: what the channel means now, judged by the newest trust root."""
    web.host.run(["slipway", "poll", "web"], check=False)
    return web.status()["poll"]


def assert_refused(web, live, text="signed only by keys that are not in the trust root"):
    """By the agent's own polls."""
    wait_for(lambda: (lambda s: not s["ok"] and text in s["text"])(web.status()["poll"]), WAIT_SEC, "the manifest to be refused")
    web.assert_whole(live)


def steal(web):
    """(thief, mine): the key that signs manifests is somebody else's now, too; a new one is made."""
    thief, web.key = web.key, formats.Key.new()
    return thief, web.key


def signed_by(web, key, **options):
    """A release by another key than the channel's."""
    mine, web.key = web.key, key
    name = web.release(**options)
    web.key = mine
    return name


# -- the good days

def test_rotation(host):
    """By slipway-publish's own order: the new key beside the old, the old one away; nobody touches the host."""
    web, chain = started(host)
    assert trust(host)["version"] == 1 and not host.exists(KEPT)
    old, new = steal(web)
    chain.extend([old, new])
    web.release()
    web.assert_whole("r2")
    said = trust(host)
    assert (said["version"], "trouble" in said) == (2, False)
    assert formats.root_payload(host.read_bytes(KEPT)) == formats.root_payload(chain.last)
    chain.extend([new])
    web.release()
    web.assert_whole("r3")
    assert trust(host)["version"] == 3
    signed_by(web, old)
    assert_refused(web, "r3")
    assert "trust root: version 3" in host.run(["slipway", "status", "web"]).stdout
    assert "trust root: version 3" in host.run(["slipway", "check"], check=False).stdout


def test_root_keys_change(host):
    """One lost root key of three costs nothing: the two that are left put another in its place, which then signs."""
    web, chain = started(host)
    lost = chain.people.pop()
    chain.people.append(formats.Key.new())
    chain.extend([web.key])
    chain.extend([web.key], signers=[chain.people[0], chain.people[2]])
    assert poll(web)["ok"] and trust(host)["version"] == 3
    chain.extend([web.key], signers=[chain.people[0], lost])
    assert poll(web)["ok"] and trust(host)["version"] == 3
    assert "1 of 2 needed signatures by root keys of version 3" in trust(host)["trouble"]


def test_two_applications(host):
    """They share the trust root, and one walk serves both."""
    store = toy.local_store(host)
    apps = [toy.Toy(host, store, app=name) for name in ("web", "api")]
    chain = Chain(apps[0])
    toy.configure(apps)
    chain.bring(chain.make(1, [app.key for app in apps]))
    for app in apps:
        app.release()
    host.start_unit("slipwayd.service")
    for app in apps:
        app.assert_whole("r1")
    old, apps[1].key = apps[1].key, formats.Key.new()
    chain.extend([app.key for app in apps])
    apps[0].release()
    apps[0].assert_whole("r2")
    # What its own manifest said is judged once more, without another one.
    wait_for(lambda: "not in the trust root" in apps[1].status()["poll"]["text"], WAIT_SEC, "api's manifest to be refused")
    apps[1].release()
    apps[1].assert_whole("r2")


# -- the bad days

def test_stolen_key(host):
    """The thief's manifest comes after the revocation, which the host has not seen yet."""
    web, chain = started(host)
    thief, new = steal(web)
    chain.extend([new])
    signed_by(web, thief)
    assert_refused(web, "r1")
    assert trust(host)["version"] == 2
    web.release()
    web.assert_whole("r3")


def test_stolen_key_is_noticed_late(host):
    """The thief's release is live; what undoes it works, and nothing of theirs comes again."""
    web, chain = started(host)
    thief, new = steal(web)
    signed_by(web, thief)
    web.assert_whole("r2")
    chain.extend([new])
    poll(web)
    assert_refused(web, "r2")
    host.run(["slipway", "rollback", "web"])
    web.assert_whole("r1")
    signed_by(web, thief)
    assert_refused(web, "r1")
    host.run(["slipway", "resume", "web"])
    assert_refused(web, "r1")
    web.release()
    web.assert_whole("r4")


def test_revoked_on_the_way(host):
    """What the thief ordered and has not switched yet is given up."""
    web, chain = started(host)
    thief, new = steal(web)
    host.run(["install", "-d", "-m", "0700", "-o", "daemon", "/srv/web/control"])
    host.run(["touch", LOCK])
    host.run(["systemd-run", "--unit=holder", "flock", LOCK, "sleep", "infinity"])
    wait_for(lambda: host.run(["flock", "-n", LOCK, "true"], check=False).rc != 0, WAIT_SEC, "the lock to be taken")
    signed_by(web, thief)
    web.wait_phase("waiting", "r2")
    chain.extend([new])
    assert "not in the trust root" in poll(web)["text"]
    web.wait(lambda s: s["phase"] == "idle", "r2 to be given up")
    host.stop_unit("holder.service")
    host.run(["rm", "-r", "/srv/web/control"])
    assert_refused(web, "r1")


def test_revoked_before_its_window(host):
    web, chain = started(host)
    thief, new = steal(web)
    signed_by(web, thief, window=[toy.closed_window()])
    wait_for(lambda: poll(web)["verdict"] == "outside-window", WAIT_SEC, "r2 to wait for its window")
    chain.extend([new])
    poll(web)
    assert_refused(web, "r1")
    assert host.run(["slipway", "due", "web"], check=False).rc != 0


def test_all_root_keys_lost(host):
    """Nobody can sign the next one: it comes with an image, as the first one did, and has its number."""
    web, chain = started(host)
    chain.extend([web.key])
    assert poll(web)["ok"] and trust(host)["version"] == 2
    chain.people = [formats.Key.new() for _ in range(3)]
    chain.bring(chain.make(3, [web.key], signers=()))
    host.run(["systemctl", "restart", "slipwayd.service"])
    assert trust(host)["version"] == 3
    chain.last = chain.make(3, [web.key], signers=())
    chain.extend([web.key])
    assert poll(web)["ok"] and trust(host)["version"] == 4


def test_round(host):
    """slipwayd --once: it walks as the service does, and keeps what it learned."""
    web, chain = started(host)
    host.stop_unit("slipwayd.service")
    thief, new = steal(web)
    chain.extend([new])
    signed_by(web, thief)
    assert host.run([SLIPWAYD, "--once"], check=False).rc == ROUND_REFUSED
    assert slipway.current(host) == "r1" and formats.root_payload(host.read_bytes(KEPT))["version"] == 2
    web.release()
    assert host.run([SLIPWAYD, "--once"]).rc == 0 and slipway.current(host) == "r3"


# -- never back

def test_never_back(host):
    web, chain = started(host)
    thief, new = steal(web)
    chain.extend([thief, new])
    chain.extend([new])
    web.release()
    web.assert_whole("r2")
    assert trust(host)["version"] == 3

    def assert_still(version):
        host.run(["systemctl", "restart", "slipwayd.service"])
        assert trust(host)["version"] == version
        signed_by(web, thief)
        assert_refused(web, "r2")

    # An older store, an older image: the same one, and one with a root in between.
    for n in (2, 3):
        (web.store.directory / path(n)).unlink()
    assert_still(3)
    web.store.put(path(4), chain.image)
    assert_still(3)
    assert "trust/4.json in the store is refused: " in trust(host)["trouble"]
    (web.store.directory / path(4)).unlink()
    chain.bring(chain.make(2, [thief, new]))
    assert_still(3)
    # A newer image counts, and is remembered when an older one comes again.
    chain.bring(chain.make(5, [new]))
    assert_still(5)
    chain.bring()
    assert_still(5)
    assert formats.root_payload(host.read_bytes(KEPT))["version"] == 5


def test_kept_one_is_damaged(host):
    """It is said, the image's counts, and the chain is walked again before anything new is taken."""
    web, chain = started(host)
    thief, new = steal(web)
    chain.extend([new])
    web.release()
    web.assert_whole("r2")
    host.stop_unit("slipwayd.service")
    host.write(KEPT, b"\0" * 100)
    found = host.run(["slipway", "check"], check=False).stdout
    assert "what was learned of trust roots is lost" in found
    signed_by(web, thief)
    cursor = host.journal_cursor()
    host.start_unit("slipwayd.service")
    host.wait_journal("what was learned of trust roots is lost", after=cursor)
    assert_refused(web, "r2")
    assert formats.root_payload(host.read_bytes(KEPT)) == formats.root_payload(chain.last)


def test_no_room_to_keep_it(host):
    """Who was revoked is not trusted for want of room; it is kept as soon as there is some."""
    web, chain = started(host)
    thief, new = steal(web)
    host.run(["mkdir", KEPT])  # nothing can be renamed over it
    chain.extend([new])
    signed_by(web, thief)
    assert_refused(web, "r1")
    assert "can't be kept" in trust(host)["trouble"]
    host.run(["rmdir", KEPT])
    poll(web)
    assert trust(host)["version"] == 2 and "trouble" not in trust(host)
    assert formats.root_payload(host.read_bytes(KEPT))["version"] == 2


# -- a store that lies

def flipped(data):
    """With another payload under the same signatures."""
    outer = json.loads(data)
    payload = base64.b64decode(outer["payload"]).replace(b'"threshold":2', b'"threshold":1')
    outer["payload"] = base64.b64encode(payload).decode()
    return json.dumps(outer).encode()


# what lies there as version 2, made by (chain, some other key), and what is said
LIES = {
    "nobody signed": (lambda c, k: c.make(2, [k], signers=()), "no signature"),
    "too few signed": (lambda c, k: c.make(2, [k], signers=c.people[:1]), "1 of 2 needed signatures by root keys of version 1"),
    "one signed twice": (lambda c, k: c.make(2, [k], signers=[c.people[0]] * 2), "1 of 2 needed signatures"),
    "strangers signed": (lambda c, k: c.make(2, [k], signers=[k, formats.Key.new()]), "not root keys of version 1"),
    "a manifest key signed": (lambda c, k: c.make(2, [k], signers=[c.web.key]), "not root keys of version 1"),
    "its own keys did not sign": (lambda c, k: c.make(2, [k], root_keys=[k], root_threshold=1), "not root keys of version 2"),
    "changed afterwards": (lambda c, k: flipped(c.make(2, [k])), "does not match"),
    "version 3": (lambda c, k: c.make(3, [k]), "its version is 3, and only 2 can follow 1"),
    "version 1 again": (lambda c, k: c.make(1, [k]), "its version is 1, and only 2 can follow 1"),
    "another schema": (lambda c, k: formats.envelope(formats.TRUST_TYPE, {"schema": "slipway/trust/2"}, c.people), "may be newer"),
    "a manifest": (lambda c, k: formats.envelope(formats.MANIFEST_TYPE, {}, c.people), "payloadType"),
    "no JSON": (lambda c, k: b"\xff\0", "line 1"),
    "too large": (lambda c, k: b" " * (300 << 10), "more than"),
}


@pytest.fixture(scope="module")
def lied_to(make_module_hosts):
    return started(make_module_hosts(1)[0])


@pytest.mark.parametrize("lie", LIES)
def test_lies(lied_to, lie):
    """Said, and nothing changes: the channel goes on by the root that is known."""
    web, chain = lied_to
    make, text = LIES[lie]
    key = formats.Key.new()
    web.store.put(path(2), make(chain, key))
    said = poll(web)
    assert said["ok"] and text in trust(web.host)["trouble"], trust(web.host)
    assert trust(web.host)["version"] == 1 and not web.host.exists(KEPT)
    assert text in web.host.run(["slipway", "status"]).stdout
    signed_by(web, key)
    assert_refused(web, f"r{web.n_releases - 1}")
    web.assert_whole(web.release())
    (web.store.directory / path(2)).unlink()
    poll(web)
    assert "trouble" not in trust(web.host)


def test_hole(host):
    """What lies behind it is not looked for."""
    web, chain = started(host)
    web.store.put(path(3), chain.make(3, [formats.Key.new()]))
    assert poll(web)["ok"] and trust(host)["version"] == 1 and "trouble" not in trust(host)


def test_chain_without_end(host):
    """As many as are signed are followed, but not all at once."""
    web, chain = started(host)
    n = STEPS_MAX + 20
    for _ in range(n):
        chain.extend([web.key])
    assert poll(web)["ok"]
    assert trust(host)["version"] == STEPS_MAX + 1 and "more trust roots than are followed at once" in trust(host)["trouble"]
    assert poll(web)["ok"]
    assert trust(host)["version"] == n + 1 and "trouble" not in trust(host)


def test_roots_are_withheld(host):
    """Who withholds newer ones gains time until the one that is known expires, and not in silence."""
    web, chain = started(host, expires=formats.after(days=20))
    host.wait_journal(r"The trust root \(version 1\) expires at .*publish a next one")
    assert "the trust root (version 1) expires in 19 days" in host.run(["slipway", "status"]).stdout
    assert "in 19 days" in host.run(["slipway", "check"], check=False).stdout
    chain.extend([web.key])
    poll(web)
    assert "expires in" not in host.run(["slipway", "status"]).stdout


def test_expired(host):
    """What runs goes on; nothing new comes before there is a next one."""
    web, chain = started(host, expires=formats.after(seconds=8))
    wait_for(lambda: "expired at" in poll(web)["text"], WAIT_SEC, "the trust root to expire")
    web.release()
    assert_refused(web, "r1", "the trust root (version 1) expired at")
    assert "expired" in host.run(["slipway", "status"]).stdout
    host.run(["systemctl", "restart", "slipwayd.service"])
    host.wait_journal(r"The trust root \(version 1\) expired at .*nothing new is deployed")
    assert_refused(web, "r1", "the trust root (version 1) expired at")
    # Expired ones on the way don't matter.
    chain.extend([web.key], expires=formats.after(days=-1))
    chain.extend([web.key])
    web.assert_whole("r2")
    assert trust(host)["version"] == 3


def test_what_it_costs(s3, s3_proxy, bucket, host):
    """Nothing, for polls that find nothing new. A store that does not let us see changes nothing either."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    toy.start([web], url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.assert_whole("r1")
    n = len(s3_proxy.seen(r"/manifest\.json"))
    wait_for(lambda: len(s3_proxy.seen(r"/manifest\.json")) > n + 3, WAIT_SEC, "some polls")
    assert [r.status for r in s3_proxy.seen(r"/trust/")] == [404]
    s3_proxy.fault(r"/trust/2\.json", fault_proxy.Answer(403, "AccessDenied"))
    web.release()
    web.assert_whole("r2")
    assert "whether there is a newer trust root is not known: trust/2.json" in trust(host)["trouble"]
    s3_proxy.clear()
    old, web.key = web.key, formats.Key.new()
    web.store.put(path(2), formats.trust_root([web.key], signers=[old, web.key], version=2))
    web.release()
    web.assert_whole("r3")
    assert "trouble" not in trust(host)
    report = f"web/channels/prod/instances/{slipway.status(host)['instance']}.json"
    wait_for(lambda: json.loads(web.store.get(report))["trust"]["version"] == 2, WAIT_SEC, "the report to tell of it")


def test_files(host):
    """Without a store, by the trust root that was kept."""
    web, chain = started(host)
    thief, new = steal(web)
    chain.extend([new])
    poll(web)
    assert_refused(web, "r1")
    host.stop_unit("slipwayd.service")
    test_deploy_files.bring(web, test_deploy_files.make(2), thief)
    refused = test_deploy_files.deploy(web, check=False)
    assert refused.rc != 0 and "not in the trust root" in refused.stdout + refused.stderr
    test_deploy_files.bring(web, test_deploy_files.make(2), new)
    assert test_deploy_files.answer(test_deploy_files.deploy(web)) == {"app": "web", "release": "r2"}


# -- slipway-publish and the second implementation

def test_publisher_makes_what_others_read(make_publisher, tmp_path):
    publisher = make_publisher(f"file://{tmp_path}/store")
    (tmp_path / "store").mkdir()
    for name in ("alice", "bob", "next"):
        publisher.run("keygen", name)
    roots = ["--root-key", "alice.pub", "--root-key", "bob.pub", "--root-threshold", 2]
    publisher.run("trust", "init", "--key", "deploy.pub", *roots, "-o", "1.json")
    publisher.run("trust", "edit", "1.json", "-o", "2.json", "--add-key", "next.pub", "--threshold", 2)
    for person in ("alice", "bob"):
        publisher.run("trust", "sign", "--after", "1.json", "--key", f"{person}.key", "2.json")
    publisher.run("trust", "publish", "--store", publisher.url, "--trust", "1.json", "2.json")
    first = formats.root_payload((publisher.directory / "1.json").read_bytes())
    second = formats.follow_root(first, (tmp_path / "store/trust/2.json").read_bytes())
    assert second["manifest"]["threshold"] == 2 and len(second["manifest"]["keys"]) == 2
    assert second["expires"] == first["expires"] and second["root"] == first["root"]
