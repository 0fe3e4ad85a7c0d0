"""Manifests that the agent must refuse, saying why, while what runs goes on running. See follower.py for what holds after each, and
test_attacks.py for those that were published once, for another time or place."""

import base64
import json

import pytest

import fault_proxy as faults
import formats
from waiting import wait_for

PAYLOAD_MAX_BYTES = 180 << 10


@pytest.fixture(scope="module")
def follower(make_follower, proxy):
    follower = make_follower(proxy.endpoint)
    follower.start()
    follower.good()
    return follower


@pytest.fixture(autouse=True)
def no_faults(proxy):
    yield
    proxy.clear()


def altered(**members):
    return lambda follower, release: follower.sign(release.altered(**members).payload)


def of_envelope(alter):
    """The envelope of a good release, altered after it was signed."""
    def make(follower, release):
        envelope = json.loads(follower.sign(release.payload))
        alter(envelope)
        return json.dumps(envelope).encode()
    return make


def other_payload(envelope):
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["expires"] = formats.after(days=3000)
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def text(change):
    """A signed payload whose JSON text was changed."""
    return lambda follower, release: follower.sign(change(json.dumps(release.payload)).encode())


def claimed_by_our_key(follower, release):
    envelope = json.loads(formats.envelope(formats.MANIFEST_TYPE, release.payload, [formats.Key.new()]))
    envelope["signatures"][0]["keyid"] = follower.key.id
    return json.dumps(envelope).encode()


def same_serial(follower, release):
    serial = follower.lived[-1]
    return follower.sign(release.altered(serial=serial, deployment=serial).payload)


def with_unit(name):
    def make(follower, release):
        activate = {"units": [{"name": name, "action": "restart"}]}
        return follower.sign(release.altered(activate=activate).payload)
    return make


def with_release_id(name):
    def make(follower, release):
        return follower.sign(release.altered(release={**release.payload["release"], "id": name}).payload)
    return make


# what the channel gets, and what is to be said of it
CASES = {
    "wrong signature": (of_envelope(other_payload), r"can't be trusted: signature of key [0-9a-f]{64} does not match"),
    "another's signature under our key id": (claimed_by_our_key, r"can't be trusted: signature of key .* does not match"),
    "no signature": (of_envelope(lambda e: e["signatures"].clear()), r"can't be trusted: no signature"),
    "no signatures member": (of_envelope(lambda e: e.pop("signatures")), r"envelope is broken: signatures: missing"),
    "unknown key": (lambda f, r: formats.envelope(formats.MANIFEST_TYPE, r.payload, [formats.Key.new()]),
                    r"can't be trusted: signed only by keys that are not in the trust root \(key ids: [0-9a-f]{64}\)"),
    "signed as a trust root": (lambda f, r: formats.envelope(formats.TRUST_TYPE, r.payload, [f.key]),
                               r"envelope is broken: payloadType: must be"),
    "same serial, other bytes": (same_serial, r"serial \d+ was seen before with other content"),
    "expired": (altered(published=formats.after(days=-3), expires=formats.after(days=-2)),
                r"the manifest expired at \d{4}-\d\d-\d\dT[0-9:]+Z: sign it anew \('slipway-publish refresh'\) or publish "
                r"again, or check this host's clock"),
    "from the future": (altered(published=formats.after(days=2)),
                        r"the manifest was published at [0-9T:-]+Z, and here it is only [0-9T:-]+Z: check this host's clock"),
    "unknown member": (altered(rollouts={}), r"not valid: rollouts: this version knows no such"),
    "newer format": (altered(schema="slipway/manifest/2", app=None, applications=["web"]),
                     r'not valid: schema: this version knows "slipway/manifest/1" only; what made this manifest may be newer'),
    "window that is none": (altered(rollout={"window": ["Mon-Thu"]}), r"not valid: rollout\.window\[0\]: \"Mon-Thu\" is no window"),
    "rollout that is not known": (altered(rollout={"max_error": 1}), r"not valid: rollout\.max_error: this version knows no such"),
    "missing member": (altered(deployment=None), r"not valid: deployment: missing"),
    "duplicate member": (text(lambda t: t[:-1] + ', "serial": 1}'), r"not valid: serial: stands there twice"),
    "duplicate member below": (text(lambda t: t.replace('"id":', '"id": "x", "id":')),
                               r"not valid: release\.id: stands there twice"),
    "wrong type": (altered(serial="7"), r"not valid: serial: must be"),
    "signed, but not JSON": (lambda f, r: f.sign(b"\x7fELF not a manifest"), r"not valid: line 1, column 1: "),
    "deep nesting": (lambda f, r: f.sign(b"[" * 100_000), r"not valid: .*deep"),
    "release id with a path": (with_release_id("../../etc"), r"not valid: release\.id: .* is not a name"),
    "unit that is not allowed": (with_unit("ssh.service"), r"names unit ssh\.service, which \"units\" of app web .* not allow"),
    "not JSON": (lambda f, r: b"<html><body>Please log in</body></html>\n", r"envelope is broken: line 1, column 1: "),
    "empty object": (lambda f, r: b"", r"envelope is broken: line 1, column 1: "),
    "cut off": (lambda f, r: f.sign(r.payload)[:-100], r"envelope is broken: line 1, column "),
    "oversized payload": (text(lambda t: t + " " * PAYLOAD_MAX_BYTES), r"the manifest has \d+ bytes, more than 184320"),
    "oversized object": (lambda f, r: f.sign(r.payload) + b" " * (256 << 10), r"sent more than the limit of 262144 bytes"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(follower, case):
    make, said = CASES[case]
    with follower.undisturbed():
        follower.put_manifest(make(follower, follower.make()))
        follower.wait_refused(said)


def test_refusal_is_reported_to_the_store(follower):
    path = f"web/channels/prod/instances/{follower.host.name}.json"
    with follower.undisturbed():
        follower.put_manifest(altered(app="api")(follower, follower.make()))
        follower.wait_refused("for app api")
        wait_for(lambda: "for app api" in json.loads(follower.store.get(path))["text"], 10, "the report to say it")


@pytest.mark.parametrize("case", ["wrong signature", "not JSON"])
def test_refusal_stands_until_the_manifest_changes(follower, proxy, case):
    """The polls after it find the same object; one of them fails for another reason."""
    make, said = CASES[case]
    with follower.undisturbed():
        follower.put_manifest(make(follower, follower.make()))
        follower.wait_refused(said)
        polls = r"/prod/manifest\.json"
        for fault in (None, faults.Answer(403, "AccessDenied"), None):
            proxy.clear()
            if fault:
                proxy.fault(polls, fault)
            wait_for(lambda: len([r for r in proxy.seen(polls) if r.status]) >= 2, 20, "two polls to be answered")
            follower.host.run(["slipway", "poll", "web"], check=False)
            if fault:
                assert "AccessDenied" in follower.status()["poll"]["text"]
        follower.wait_refused(said)
