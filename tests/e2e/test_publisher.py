"""slipway-publish against a real S3 server: races, lost answers, broken uploads, refusals. (On files: tests/cli.)"""

import concurrent.futures
import json
import os
import re
import signal

import pytest

import fault_proxy as faults
import formats
import slipway
from waiting import wait_for

LOST = 3
UNVERIFIED = 4
N_RACERS = 4
N_RACES = 5
HELD_TIMEOUT_SEC = 30
MANIFEST = r"/manifest\.json"
ARTIFACT = r"/artifact\.tar\.zst"


@pytest.fixture
def tree(tmp_path):
    """A tree whose artifact goes up in parts: random bytes don't shrink."""
    directory = tmp_path / "tree"
    directory.mkdir()
    for i in range(7):
        (directory / f"{i}.bin").write_bytes(os.urandom(10 << 20))
    return directory


def small_tree(directory, content):
    directory.mkdir(exist_ok=True)
    (directory / "file").write_text(content, encoding="utf-8")
    return directory


@pytest.fixture
def store(s3, bucket):
    return formats.S3Store(s3.client(), bucket)


@pytest.fixture
def publisher(make_publisher, store, s3):
    """Straight to the server."""
    return make_publisher(store.url, slipway.store_environment(s3))


@pytest.fixture
def through_proxy(s3, s3_proxy):
    """The environment that leads the same publisher through the fault proxy."""
    return slipway.store_environment(s3, endpoint=s3_proxy.endpoint)


def history(publisher):
    result = publisher.run("log", *publisher.channel_args(), "--json", "-n", 1000)
    return json.loads(result.stdout)["manifests"]


def uploads(boto, bucket):
    return boto.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


def test_nobody_is_lost(publisher, tmp_path):
    published = set()
    for race in range(N_RACES):
        def publish(i, race=race):
            name = f"r{race}.{i}"
            return name, publisher.run("release", *publisher.channel_args(), "--key", publisher.key_path, "--id", name,
                                       small_tree(tmp_path / name, name), check=False)
        with concurrent.futures.ThreadPoolExecutor(N_RACERS) as pool:
            results = list(pool.map(publish, range(N_RACERS)))
        failed = [r.stderr for _, r in results if r.rc not in (0, LOST)]
        assert not failed
        winners = {name for name, r in results if r.rc == 0}
        assert winners
        published |= winners
    entries = history(publisher)
    assert [e["serial"] for e in entries] == list(range(len(published), 0, -1))
    assert {e["release"] for e in entries} == published
    assert publisher.verify()["verified"]


def test_loser_is_told_who_won(publisher, through_proxy, s3_proxy, tmp_path):
    publisher.release(small_tree(tmp_path / "one", "1"), "one")
    gate = faults.Gate()
    s3_proxy.fault(MANIFEST, gate, method="PUT")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(publisher.release, small_tree(tmp_path / "slow", "s"), "slow", check=False, environment=through_proxy)
        gate.wait_held(HELD_TIMEOUT_SEC)
        publisher.release(small_tree(tmp_path / "fast", "f"), "fast", environment={"CIRCLECI": "true", "CIRCLE_USERNAME": "ada"})
        gate.open()
        result = slow.result()
    assert result.rc == LOST
    assert "ada published fast as serial 2" in result.stderr and "Run the same command again" in result.stderr
    assert json.loads(result.stdout)["winner"]["release"] == "fast"
    assert [e["release"] for e in history(publisher)] == ["fast", "one"]
    again = publisher.release(tmp_path / "slow", "slow")
    assert again["reused"] and again["serial"] == 3


def test_lost_answer_is_a_success(publisher, through_proxy, s3_proxy, tmp_path):
    """The server carries out the PUT, the answer is lost, the retry gets a 412: our own manifest stands there."""
    for release_id in ("one", "two"):
        rule = s3_proxy.fault(MANIFEST, faults.CloseAfter(None), method="PUT", times=1)
        publisher.release(small_tree(tmp_path / release_id, release_id), release_id, environment=through_proxy)
        assert len(rule.hits) == 1
    assert [(e["serial"], e["release"]) for e in history(publisher)] == [(2, "two"), (1, "one")]


def test_conflict_that_nobody_won(publisher, through_proxy, s3_proxy, tmp_path):
    """S3 answers 409 while another conditional write is under way, whatever becomes of that one."""
    rule = s3_proxy.fault(MANIFEST, faults.Answer(409, "ConditionalRequestConflict"), method="PUT", times=2)
    assert publisher.release(small_tree(tmp_path / "one", "1"), "one", environment=through_proxy)["serial"] == 1
    assert len(rule.hits) == 2
    s3_proxy.fault(MANIFEST, faults.Answer(409, "ConditionalRequestConflict"), method="PUT")
    result = publisher.release(small_tree(tmp_path / "two", "2"), "two", check=False, environment=through_proxy)
    assert result.rc == 1 and "nothing was published" in result.stderr
    assert publisher.verify()["release"] == "one"


def test_publisher_dies_before_the_history(publisher, through_proxy, s3_proxy, store, tmp_path):
    s3_proxy.fault(r"/history/1\.json", faults.Answer(403, "AccessDenied"), method="PUT")
    result = publisher.release(small_tree(tmp_path / "one", "1"), "one", check=False, environment=through_proxy)
    assert result.rc == 0 and "The next publisher will write it" in result.stderr
    assert [e["release"] for e in history(publisher)] == ["one"]
    publisher.release(small_tree(tmp_path / "two", "2"), "two")
    assert [e["release"] for e in history(publisher)] == ["two", "one"]
    payload, _ = formats.read_release(store, [publisher.key.public])
    assert payload["serial"] == 2


def test_upload_goes_on_after_a_broken_connection(publisher, through_proxy, s3_proxy, tree, boto, bucket, store):
    rule = s3_proxy.fault(ARTIFACT + r"\?.*partNumber=", faults.CloseAfter(None), method="PUT", times=2)
    publisher.release(tree, "one", environment=through_proxy)
    assert len(rule.hits) == 2
    parts = s3_proxy.seen(ARTIFACT + r"\?.*partNumber=", method="PUT")
    numbers = [re.search(r"partNumber=(\d+)", r.path).group(1) for r in parts]
    assert len(set(numbers)) >= 4
    assert len(numbers) == len(set(numbers)) + 2, "only the broken parts went up again"
    assert not uploads(boto, bucket)
    assert publisher.verify()["verified"]
    formats.read_release(store, [publisher.key.public])


def test_store_that_is_down_for_good(publisher, through_proxy, s3_proxy, tree, boto, bucket):
    s3_proxy.fault(ARTIFACT + r"\?.*partNumber=[23]", faults.Answer(503, "SlowDown"), method="PUT")
    result = publisher.release(tree, "one", check=False, environment=through_proxy)
    assert result.rc == 1
    assert "artifact.tar.zst" in result.stderr
    assert not uploads(boto, bucket)
    assert not list(publisher.directory.glob("slipway-publish.*"))
    keys = [o["Key"] for o in boto.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert not [k for k in keys if "manifest" in k or "releases" in k]


@pytest.mark.parametrize(("pattern", "method", "message"), [
    (MANIFEST, "GET", "s3:ListBucket"),
    (r"list-type=2", "GET", "AccessDenied"),
    (ARTIFACT, "PUT", "AccessDenied"),
    (MANIFEST, "PUT", "AccessDenied"),
])
def test_refusals(publisher, through_proxy, s3_proxy, tmp_path, pattern, method, message):
    s3_proxy.fault(pattern, faults.Answer(403, "AccessDenied"), method=method)
    result = publisher.release(small_tree(tmp_path / "one", "1"), "one", check=False, environment=through_proxy)
    assert result.rc == 1
    assert message in result.stderr.splitlines()[-1]


def test_flipped_bit_on_the_way(publisher, through_proxy, s3_proxy, tree):
    publisher.release(tree, "one")
    s3_proxy.fault(ARTIFACT, faults.FlipBit(5 << 20), method="GET", times=1)
    result = publisher.run("verify", *publisher.channel_args(), "--trust", publisher.root_path, "--json", check=False,
                           environment=through_proxy)
    assert result.rc == UNVERIFIED
    assert "artifact.tar.zst: frame" in result.stderr
    publisher.verify()


def test_id_is_taken(publisher, tmp_path, boto, bucket):
    publisher.release(small_tree(tmp_path / "one", "1"), "one")
    before = {o["Key"]: o["ETag"] for o in boto.list_objects_v2(Bucket=bucket)["Contents"]}
    result = publisher.release(small_tree(tmp_path / "other", "2"), "one", check=False)
    assert result.rc == 1 and "choose another id with --id" in result.stderr
    assert {o["Key"]: o["ETag"] for o in boto.list_objects_v2(Bucket=bucket)["Contents"]} == before


def test_promote_and_rollback(publisher, store, tmp_path):
    publisher.release(small_tree(tmp_path / "one", "1"), "one")
    publisher.release(small_tree(tmp_path / "two", "2"), "two")
    publisher.run("rollback", *publisher.channel_args(), "--key", publisher.key_path)
    publisher.run("promote", "--store", publisher.url, "--app", "web", "--from", "prod", "--to", "live", "--key",
                  publisher.key_path)
    payload, _ = formats.read_release(store, [publisher.key.public])
    assert (payload["release"]["id"], payload["serial"], payload["deployment"]) == ("one", 3, 3)
    assert [e["release"] for e in history(publisher)] == ["one", "two", "one"]


def test_missing_settings(publisher, tmp_path):
    tree = small_tree(tmp_path / "one", "1")
    for name, value in (("AWS_REGION", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "wrong")):
        result = publisher.release(tree, "one", check=False, environment={name: value})
        assert result.rc == 1
        assert name in result.stderr or "SignatureDoesNotMatch" in result.stderr


@pytest.mark.parametrize("size_bytes", [1000, 65 << 20])
def test_two_make_the_same_id_at_once(publisher, through_proxy, s3_proxy, store, boto, bucket, tmp_path, size_bytes):
    """The slower of two publishers with one id and different trees must not replace what the faster one published, be it
    written in one piece or in parts."""
    trees = []
    for name in ("slow", "fast"):
        trees.append(small_tree(tmp_path / name, name))
        (trees[-1] / "more").write_bytes(os.urandom(size_bytes))
    gate = faults.Gate()
    # the request that makes the object: the PUT, or the end of the upload in parts
    s3_proxy.fault(ARTIFACT + (r"(\?|$)" if size_bytes < 1 << 20 else r"\?uploadId="), gate,
                   method="PUT" if size_bytes < 1 << 20 else "POST")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(publisher.release, trees[0], "one", check=False, environment=through_proxy)
        gate.wait_held(HELD_TIMEOUT_SEC)
        publisher.release(trees[1], "one")
        gate.open()
        result = slow.result()
    assert result.rc == 1 and "choose another id with --id" in result.stderr
    payload, found = formats.read_release(store, [publisher.key.public])
    assert payload["serial"] == 1 and found["file"].content == b"fast"
    assert publisher.verify()["verified"]
    assert not uploads(boto, bucket)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_while_it_uploads(publisher, through_proxy, s3_proxy, tree, boto, bucket, number):
    """A cancelled CI job: nothing is published, nothing is left here, and the next job is not in its way. (What was begun in
    the bucket is for a lifecycle rule to remove.)"""
    gate = faults.Gate()
    s3_proxy.fault(ARTIFACT + r"\?.*partNumber=3", gate)
    with publisher.popen("release", *publisher.channel_args(), "--key", publisher.key_path, "--id", "one", tree,
                         environment=through_proxy) as child:
        gate.wait_held(HELD_TIMEOUT_SEC)
        child.send_signal(number)
        child.wait(HELD_TIMEOUT_SEC)
    gate.open()
    assert child.returncode != 0
    assert not [o["Key"] for o in boto.list_objects_v2(Bucket=bucket).get("Contents", []) if "releases" in o["Key"]]
    wait_for(lambda: not list(publisher.directory.glob("slipway-publish.*")), HELD_TIMEOUT_SEC, "temporary files to go")
    assert publisher.release(tree, "one")["serial"] == 1


def test_refused_is_not_damaged(publisher, through_proxy, s3_proxy, tmp_path):
    """What may not be read is neither verified nor found to be wrong."""
    publisher.release(small_tree(tmp_path / "one", "1"), "one")
    s3_proxy.fault(ARTIFACT, faults.Answer(403, "AccessDenied"), method="GET")
    result = publisher.run("verify", *publisher.channel_args(), "--trust", publisher.root_path, check=False,
                           environment=through_proxy)
    assert result.rc == 1 and "grant s3:GetObject" in result.stderr
