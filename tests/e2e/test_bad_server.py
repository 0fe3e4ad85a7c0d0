"""A store that answers wrongly, late or not at all: what comes once heals by itself, what stays is said and changes nothing."""

import itertools
import os
import re

import pytest

import fault_proxy as faults
import formats
from waiting import wait_for

MANIFEST = r"/channels/prod/manifest\.json"
INDEX = r"/releases/[^/]+/index"
ARTIFACT = r"/artifact\.tar\.zst"
N_TRIES = 4
UNREACHABLE = 4  # of slipwayd --once
LARGE_BYTES = 20 << 20  # three ranges


@pytest.fixture(scope="module")
def follower(make_follower, proxy):
    follower = make_follower(proxy.endpoint)
    follower.start()
    return follower


@pytest.fixture(autouse=True)
def no_faults(follower, proxy):
    proxy.clear()
    yield
    proxy.clear()


def digests(release):
    return [release.payload["release"][name]["sha256"] for name in ("artifact", "index")]


def whole(follower):
    """For IgnoreRange: the object of a request's path."""
    prefix = follower.store.url.removeprefix("s3://") + "/"
    return faults.IgnoreRange(lambda path: follower.store.get(path.partition(prefix)[2]))


def end_of_files(release):
    """Where the last frame with files ends; the archive's own end is not fetched."""
    return formats.Index.unpack(release.index).frames[-1].offset


# what happens to the first request of an object, after which it is asked for again within the deployment
ONCE = {
    "500": lambda f, r: faults.Answer(500),
    "503": lambda f, r: faults.Answer(503, "SlowDown"),
    "503 of a load balancer": lambda f, r: faults.Answer(503, body=b"<html>Service Unavailable</html>"),
    "closes before the answer": lambda f, r: faults.CloseAfter(None),
    "closes early": lambda f, r: faults.CloseAfter(100),
    "resets": lambda f, r: faults.ResetAfter(100),
    "answers no HTTP": lambda f, r: faults.Answer(500, body=b"\x00\xff<Error><Code>\xfe</Cod"),
    "flips a bit in the first frame": lambda f, r: faults.FlipBit(40),
    "flips a bit in the last frame": lambda f, r: faults.FlipBit(end_of_files(r) - 10),
}


@pytest.mark.parametrize("case", ONCE)
def test_artifact_heals(follower, proxy, case):
    release = follower.make()
    rule = proxy.fault(ARTIFACT, ONCE[case](follower, release), times=1)
    follower.cursor = follower.host.journal_cursor()
    follower.publish(release)
    follower.wait_live(release)
    assert len(rule.hits) == 1
    assert len(proxy.seen(ARTIFACT)) == 2
    follower.assert_nothing_left()
    if "flips" in case:
        follower.wait_said(r"release r\d+: bytes \d+ to \d+ of the artifact are not what was signed: fetching them again")


def test_index_heals(follower, proxy):
    release = follower.make()
    rule = proxy.fault(INDEX, faults.CloseAfter(100), times=2)
    follower.publish(release)
    follower.wait_live(release)
    assert len(rule.hits) == 2


def test_stalled_artifact_heals(follower, proxy):
    """After 15 s in which nothing moves the transfer is given up, and goes on where it was."""
    release = follower.make()
    proxy.fault(ARTIFACT, faults.StallAfter(1000), times=1)
    follower.publish(release)
    follower.wait_live(release)
    assert [r.status for r in proxy.seen(ARTIFACT)] == [206, 206]


def test_promise_that_is_not_kept(follower, proxy):
    """What was asked for came: what else was promised is not waited for."""
    release = follower.make()
    proxy.fault(ARTIFACT, faults.AlterHeader("Content-Length", lambda n: int(n) + 10))
    follower.publish(release)
    follower.wait_live(release)
    assert [r.status for r in proxy.seen(ARTIFACT)] == [206]


def test_slow_start_is_waited_for(follower, proxy):
    release = follower.make()
    proxy.fault(ARTIFACT, faults.Late(3))
    follower.publish(release)
    follower.wait_live(release)
    assert [r.status for r in proxy.seen(ARTIFACT)] == [206]


def test_object_that_changes_between_two_ranges(follower, proxy):
    """Nothing of it is used, whatever the server makes of If-Match; it is fetched anew when the deployment is tried again."""
    release = follower.make(more=[formats.Entry("large", content=os.urandom(LARGE_BYTES))])
    etags = itertools.count()
    rule = proxy.fault(ARTIFACT, faults.AlterHeader("ETag", lambda _: f'"{next(etags)}"'), times=2)
    follower.cursor = follower.host.journal_cursor()
    follower.publish(release)
    follower.wait_failed(release, r"\S+ was changed while it was fetched", condemned=False)
    assert len(rule.hits) == 2
    follower.wait_live(release)
    follower.assert_nothing_left()


@pytest.mark.parametrize("which", ["artifact", "index"])
def test_newer_release_overtakes_a_stalled_one(follower, proxy, which):
    running = follower.snapshot()
    rule = proxy.fault(ARTIFACT if which == "artifact" else INDEX, faults.StallAfter(100))
    follower.cursor = follower.host.journal_cursor()
    follower.publish(follower.make())
    wait_for(lambda: rule.hits, 20, "the object to be asked for")
    assert follower.status()["state"]["phase"] == "fetching"
    assert follower.snapshot() == running
    proxy.clear()
    follower.good()
    follower.wait_said(r"deployment \d+ is given up before the switch: overtaken by a newer order")
    follower.assert_nothing_left()


# what happens to every request of an object, and what is said of it
ALWAYS = {
    "403": (lambda f: faults.Answer(403, "AccessDenied"),
            r"the store refuses \S+(?: \(.*\))?: can't read s3://\S+: AccessDenied: .* takes the permission s3:GetObject"),
    "404": (lambda f: faults.Answer(404, "NoSuchKey"), r"the store has no \S+"),
    "500": (lambda f: faults.Answer(500), rf"can't read s3://\S+ \(tried {N_TRIES} times\): .*InternalError.* \(status 500"),
    "503": (lambda f: faults.Answer(503, "SlowDown"),
            rf"can't read s3://\S+ \(tried {N_TRIES} times\): .*SlowDown.* \(status 503"),
    "closes before the answer": (lambda f: faults.CloseAfter(None), rf"can't read s3://\S+ \(tried {N_TRIES} times\): "),
    "closes early": (lambda f: faults.CloseAfter(100), rf"can't read s3://\S+ \(tried {N_TRIES} times\): "),
    "redirects": (lambda f: faults.redirect(307, "https://elsewhere.test/"), r"can't read s3://\S+: .* \(status 307"),
    # a message that would not be JSON, nor harmless on a terminal
    "says no with odd bytes": (lambda f: faults.Answer(403, body=b"<Error><Code>AccessDenied</Code><Message>\xff\xfe caf\xe9 "
                                                       b"\xc2\x9b2J \x1b[2J</Message></Error>"),
                               r"can't read s3://\S+: AccessDenied: "),
    "says no with garbage": (lambda f: faults.Answer(400, body=b"<Error><Code>&#0;</Code" + b"<" * 5000),
                             r"can't read s3://\S+: refused \(status 400"),
}
OF_RANGES = {
    "ignores Range": (whole, r"answered with status 200 instead of the part of the object that was asked for"),
    "sends less": (lambda f: faults.Truncate(100), r"sent only 100 of \d+ bytes"),
    "sends more than it promises": (lambda f: faults.AlterHeader("Content-Length", lambda n: int(n) - 10),
                                    r"sent only \d+ of \d+ bytes"),
    "sends another range": (lambda f: faults.AlterHeader("Content-Range", lambda r: r.replace("bytes 0-", "bytes 1-")),
                            r"answered with another part of the object \('bytes 1-\d+/\d+'\) than was asked for"),
}


@pytest.mark.parametrize("case", {**ALWAYS, **OF_RANGES})
def test_artifact_cannot_be_had(follower, proxy, case):
    fault, said = {**ALWAYS, **OF_RANGES}[case]
    release = follower.make()
    with follower.undisturbed(digests(release)):
        proxy.fault(ARTIFACT, fault(follower))
        follower.publish(release)
        follower.wait_failed(release, rf"can't fetch the artifact of release {release.payload['release']['id']}: .*{said}",
                             condemned=False)
        proxy.clear()


@pytest.mark.parametrize("case", ["503", "closes early"])
def test_round_without_an_artifact(follower, proxy, case):
    """A store that is down or busy is one that can't be reached: what asked for the round may ask again."""
    fault, _ = ALWAYS[case]
    host = follower.host
    host.stop_unit("slipwayd.service")
    release = follower.make()
    proxy.fault(ARTIFACT, fault(follower))
    follower.publish(release)
    once = host.run(["/usr/lib/slipway/slipwayd", "--once"], check=False)
    assert once.rc == UNREACHABLE, once
    proxy.clear()
    host.start_unit("slipwayd.service")
    follower.wait_live(release)
    follower.assert_nothing_left()


@pytest.mark.parametrize("case", ["403", "404", "closes early"])
def test_index_cannot_be_had(follower, proxy, case):
    fault, said = ALWAYS[case]
    release = follower.make()
    with follower.undisturbed(digests(release)):
        proxy.fault(INDEX, fault(follower))
        follower.publish(release)
        follower.wait_failed(release, rf"can't fetch the index of release \S+: .*{said}", condemned=False)
        proxy.clear()


@pytest.mark.parametrize("case", ["404", "ignores Range"])
def test_failed_deployment_is_tried_again(follower, proxy, case):
    """By itself, some seconds later; the store is well then."""
    fault, said = {**ALWAYS, **OF_RANGES}[case]
    release = follower.make()
    proxy.fault(ARTIFACT, fault(follower), times=1)
    follower.cursor = follower.host.journal_cursor()
    follower.publish(release)
    follower.wait_failed(release, said, condemned=False)
    follower.wait_live(release)
    follower.assert_nothing_left()


@pytest.mark.parametrize("case", ALWAYS)
def test_manifest_cannot_be_had(follower, proxy, case):
    fault, said = ALWAYS[case]
    with follower.undisturbed(then_good=False):
        proxy.fault(MANIFEST, fault(follower))
        release = follower.make()
        follower.publish(release)
        follower.wait_refused(said)
    proxy.clear()
    follower.wait_live(release)


class Refusing(faults.Fault):
    """Says no, each time under another id, as S3 does."""

    def __init__(self):
        self.n = 0

    def before(self, handler):
        self.n += 1
        return faults.Answer(403, "AccessDenied", {"x-amz-request-id": f"ID{self.n}"}).before(handler)


def test_refusal_that_stays_is_told_once(follower, proxy):
    """In the journal and in the report, though each answer of the store has an id of its own."""
    refusing = Refusing()
    proxy.fault(MANIFEST, refusing)
    follower.cursor = follower.host.journal_cursor()

    def n_judged():
        found = re.search(r"request id ID(\d+)", follower.status()["poll"]["text"])
        return int(found.group(1)) if found else 0
    wait_for(lambda: n_judged() > 4, 20, "answers to be judged")
    told = follower.host.run(["journalctl", "--quiet", "--output=cat", "-u", "slipwayd.service",
                              f"--after-cursor={follower.cursor}"]).stdout
    assert told.count("the store refuses") == 1, told
    assert len(proxy.seen("/instances/", "PUT")) <= 2
