"""Where releases have to come from: a host whose configuration asks for it takes what fits and refuses the rest, before it fetches
anything of the release. See follower.py for what holds after each refusal."""

import contextlib
import copy
import json

import pytest

import application
import fault_proxy as faults
import follower as follower_module
import formats
import slipway
from waiting import wait_for

POLICY = {"builders": ["https://ci.example/*"], "repositories": ["github.com/acme/*"]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROVENANCE = r"/provenance\.json"
GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://ci.example", "GITHUB_REPOSITORY": "acme/web",
          "GITHUB_WORKFLOW_REF": "acme/web/.github/workflows/release.yml@refs/heads/main", "GITHUB_SHA": COMMIT}


@pytest.fixture(scope="module")
def follower(make_follower, proxy):
    follower = make_follower(proxy.endpoint)
    follower.policy = POLICY
    follower.start()
    return follower


@pytest.fixture(autouse=True)
def no_faults(proxy):
    yield
    proxy.clear()


def said(**alter):
    """A statement that says something else."""
    return lambda follower, release: follower.sign_statement(formats.statement(release, **alter))


def altered(*path, value):
    """One whose member at the path has another value."""
    def make(follower, release):
        statement = formats.statement(release)
        at = statement
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
        return follower.sign_statement(statement)
    return make


def of_commit(commit):
    """The manifest names a commit, the statement another, or none."""
    def make(follower, release):
        release.payload["release"]["source"] = {"commit": COMMIT}
        return follower.sign_statement(formats.statement(release, commit=commit))
    return make


def of_another(follower, release):
    """The whole provenance of the release before."""
    return follower.store.get(f"web/releases/r{follower.lived[-1]}/provenance.json")


def about_another_artifact(follower, release):
    """This release by its name, and what is allowed, but of other bytes."""
    other = copy.deepcopy(release)
    other.payload["release"]["artifact"]["sha256"] = formats.sha256(b"another").hex()
    return follower.sign_statement(formats.statement(other))


# what the signed manifest names as its provenance, and what is to be said of it
CASES = {
    "another builder": (said(builder="https://desk.example/ann"), r"it was built by https://desk\.example/ann, which .provenance. of app web"),
    "builder that only contains it": (said(builder="x:https://ci.example/web"), r"it was built by x:https://ci"),
    "a person's machine": (said(builder="urn:slipway:builder:local"), r"it was built by urn:slipway:builder:local, which"),
    "another repository": (said(repository="github.com/evil/web"), r"it was built of github\.com/evil/web, which .provenance. of app web"),
    "no repository": (said(repository=None), r"it was built of an unknown repository"),
    "another commit": (of_commit("f" * 40), rf"its commit is f+, not {COMMIT}"),
    "no commit": (of_commit(None), rf"its commit is not said, not {COMMIT}"),
    "of another release": (of_another, r"it is about another artifact"),
    "about another artifact": (about_another_artifact, r"it is about another artifact"),
    "about another index": (altered("subject", 1, "digest", value={"sha256": "0" * 64}), r"it is about another index"),
    "about no index": (altered("subject", 1, "name", value="sbom.json"), r"subject\[1\]\.name: must be"),
    "another app": (altered("predicate", "buildDefinition", "externalParameters", "app", value="api"), r"its app is api, not web"),
    "another predicate": (altered("predicateType", value="https://slsa.dev/provenance/v0.2"), r"predicateType: must be"),
    "another build": (altered("predicate", "buildDefinition", "buildType", value="urn:slipway:release:2"), r"buildType: must be"),
    "parameter that is not known": (altered("predicate", "buildDefinition", "externalParameters", "dirty", value="yes"),
                                    r"externalParameters\.dirty: this version knows no such"),
    "not a statement": (lambda f, r: f.sign_statement(b"[]"), r"must be an object"),
    "a manifest": (lambda f, r: f.sign(r.payload), r"payloadType: must be"),
    "not JSON": (lambda f, r: b"<html></html>", r"line 1, column 1: "),
    "as large as it may be": (lambda f, r: b" " * formats.PROVENANCE_MAX_BYTES, r"line 1, column "),
}


def assert_nothing_fetched(proxy, release):
    """Neither index nor artifact were asked for."""
    assert not proxy.seen(rf"/releases/{release.payload['release']['id']}/(index|artifact)")


@pytest.mark.parametrize("case", CASES)
def test_refused(follower, proxy, case):
    make, reason = CASES[case]
    with follower.undisturbed():
        release = follower.make()
        formats.add_provenance(release, make(follower, release))
        follower.publish(release)
        follower.wait_failed(release, rf"the provenance of release r\d+: .*{reason}", condemned=True)
        assert_nothing_fetched(proxy, release)


def test_manifest_without(follower, proxy):
    with follower.undisturbed():
        release = follower.make()
        del release.payload["release"]["provenance"]
        release.provenance = None
        follower.publish(release)
        follower.wait_failed(release, r"the manifest names no provenance, which .provenance. of app web", condemned=True)
        assert_nothing_fetched(proxy, release)


def test_oversized(follower, proxy):
    with follower.undisturbed():
        release = follower.make()
        formats.add_provenance(release, release.provenance + b" " * formats.PROVENANCE_MAX_BYTES)
        follower.publish(release)
        follower.wait_refused(r"not valid: release\.provenance\.size: must be 1 to 65536 bytes")
        assert not proxy.seen(rf"/releases/{release.payload['release']['id']}/")


# what becomes of the object in the store, whatever was signed
DAMAGE = {
    "missing": (None, r"the store has no \S+/provenance\.json"),
    "changed": (lambda data: data.replace(b'"sig": "', b'"sig": "A', 1)[:len(data)], r"it is not what was signed"),
    "shorter": (lambda data: data[:-1], r"has \d+ bytes"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_not_what_was_signed(follower, proxy, damage):
    """It is asked for again, and as soon as the right one is there the release goes live."""
    change, reason = DAMAGE[damage]
    release = follower.make()
    with follower.undisturbed(then_good=False):
        if change is None:
            proxy.fault(PROVENANCE, faults.Answer(404, "NoSuchKey"))
            follower.publish(release)
        else:
            good, release.provenance = release.provenance, change(release.provenance)
            follower.publish(release)
            release.provenance = good
        follower.wait_failed(release, rf"the provenance of release r\d+: .*{reason}", condemned=False)
        assert_nothing_fetched(proxy, release)
    proxy.clear()
    follower.store.put(release.payload["release"]["provenance"]["path"], release.provenance)
    follower.wait_live(release)
    follower.assert_nothing_left()


def test_release_that_is_here_already(follower):
    """The channel goes back to it by another manifest, which vouches for another origin."""
    first, _ = follower.good(), follower.good()
    again = copy.deepcopy(first)
    with follower.undisturbed():
        again.payload["serial"] = again.payload["deployment"] = follower.make().payload["serial"]
        formats.add_provenance(again, said(builder="urn:x")(follower, again))
        follower.publish(again)
        follower.wait_failed(again, r"it was built by urn:x", condemned=True)


def test_staging_asks_as_well(follower, proxy):
    with follower.undisturbed():
        release = follower.make()
        formats.add_provenance(release, said(builder="urn:x")(follower, release))
        proxy.fault(PROVENANCE, faults.Answer(503, "SlowDown"))
        follower.publish(release)
        follower.wait_failed(release, r"the provenance of release", condemned=False)
        proxy.clear()
        result = follower.host.run(["slipway", "stage", "web"], check=False)
        assert result.rc != 0 and "urn:x" in result.stderr, result


def test_rollback_asks_nobody(follower, proxy):
    first, second = (r.payload["release"]["id"] for r in (follower.good(), follower.good()))
    proxy.fault(r".", faults.Answer(503, "SlowDown"))
    follower.host.run(["slipway", "rollback", "web"])
    assert slipway.current(follower.host) == first
    follower.host.run(["slipway", "rollback", "web", second])
    proxy.clear()
    follower.host.run(["slipway", "resume", "web"])
    follower.good()


def set_policy(follower, policy):
    follower.policy = policy
    follower.configure()
    follower.host.run(["systemctl", "restart", "slipwayd.service"])


@contextlib.contextmanager
def other_policy(follower, policy):
    set_policy(follower, policy)
    yield
    set_policy(follower, POLICY)
    follower.good()


def assert_made_whole(follower, proxy, release):
    """What is live is no matter of the policy, also when its link is gone."""
    name = release.payload["release"]["id"]
    wait_for(lambda: f"(release {name}) is live" in follower.status()["poll"].get("text", ""), follower_module.DEPLOY_TIMEOUT_SEC,
             "the manifest to be judged")
    proxy.clear()
    cursor = follower.host.journal_cursor()
    follower.host.run(["rm", "/srv/web/current"])
    follower.host.wait_journal(rf"release {name} is live", unit="slipwayd.service", after=cursor)
    assert slipway.current(follower.host) == name and not follower.status()["state"].get("failed")
    assert not proxy.seen(r"/releases/")


def test_policy_that_is_narrowed(follower, proxy):
    release = follower.good()
    with other_policy(follower, {"builders": ["urn:nobody"]}):
        assert_made_whole(follower, proxy, release)


def test_live_release_without(follower, proxy):
    """It came before the policy."""
    set_policy(follower, None)
    release = follower.good()
    set_policy(follower, POLICY)
    assert release.provenance is None
    assert_made_whole(follower, proxy, release)
    follower.good()


def test_policy_that_is_widened(follower):
    """What it has condemned is deployed once the administrator says so."""
    release = follower.make()
    formats.add_provenance(release, said(builder="urn:desk")(follower, release))
    with follower.undisturbed(then_good=False):
        follower.publish(release)
        follower.wait_failed(release, r"it was built by urn:desk", condemned=True)
    with other_policy(follower, {"builders": [*POLICY["builders"], "urn:desk"]}):
        follower.host.run(["slipway", "resume", "web"])
        follower.wait_live(release)


def test_what_the_publisher_writes(follower, s3, make_publisher, tmp_path):
    """By slipway-publish, from a pipeline it fits, and from a desk it does not."""
    publisher = make_publisher(follower.store.url, slipway.store_environment(s3))
    key = tmp_path / "follower.key"
    follower.key.save(key)
    tree, desk_tree = (application.small_tree(tmp_path / name, name) for name in ("ci", "desk"))
    options = {"spec": {"activate": follower_module.ACTIVATE}}
    publisher.key_path = key
    with other_policy(follower, {"builders": ["https://ci.example/acme/web/.github/workflows/*@refs/heads/main"],
                                 "repositories": ["ci.example/acme/web"]}):
        publisher.release(tree, "ci", environment=GITHUB, **options)
        wait_for(lambda: follower.status()["state"].get("current") == "ci", follower_module.DEPLOY_TIMEOUT_SEC, "ci to go live")
        follower.n_releases = publisher.release(desk_tree, "desk", **options)["serial"]
        wait_for(lambda: "urn:slipway:builder:local" in json.dumps(follower.status()["state"].get("failed")),
                 follower_module.REFUSE_TIMEOUT_SEC, "the desk's release to be refused")
        assert slipway.current(follower.host) == "ci"


def test_not_fetched_where_nobody_asks(make_follower, proxy):
    follower = make_follower(proxy.endpoint)
    follower.start()
    follower.cursor = follower.host.journal_cursor()
    release = follower.make()
    formats.add_provenance(release, b"nobody looks at it")
    proxy.fault(PROVENANCE, faults.Answer(404, "NoSuchKey"))
    follower.publish(release)
    follower.wait_live(release)
    assert not proxy.seen(rf"/releases/{release.payload['release']['id']}{PROVENANCE}")
