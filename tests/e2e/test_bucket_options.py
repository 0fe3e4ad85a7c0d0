"""The options of a store's URL on buckets that ask for them: encrypted by KMS keys, paid by the requester, of a known owner.

radosgw judges all three, as AWS does: it encrypts with the key that is named, and refuses who does not say that he pays and who
expects another owner.
"""

import json
import os
import types
import uuid

import pytest

import formats
import s3_server
import slipway
import toy
from waiting import wait_for

OWNER, OTHER = "111122223333", "444455556666"
KEY, OTHER_KEY = s3_server.KMS_KEYS
WAIT_SEC = 40


def everything_for(user, bucket):
    return json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{user.name}"]}, "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]})


@pytest.fixture(scope="module")
def owner(s3):
    """A user whose name could be the id of an account of AWS."""
    return s3.make_user(OWNER)


@pytest.fixture
def foreign(s3, owner):
    """A bucket of somebody else, where we may do everything, if we pay for it."""
    client = s3.client(owner, tls=True)
    name = f"foreign-{uuid.uuid4().hex[:16]}"
    client.create_bucket(Bucket=name)
    client.put_bucket_policy(Bucket=name, Policy=everything_for(s3.users[0], name))
    client.put_bucket_request_payment(Bucket=name, RequestPaymentConfiguration={"Payer": "Requester"})
    yield types.SimpleNamespace(name=name, client=client, url=f"s3://{name}/deploy")
    s3_server.remove_bucket(client, name)


def tree(directory, name="one", *, large=False):
    directory.mkdir(exist_ok=True)
    for entry in toy.entries(name, toy.GOOD):
        (directory / entry.path).write_bytes(entry.content)
        (directory / entry.path).chmod(entry.file_mode)
    for n in range(7 if large else 0):
        (directory / f"{n}.bin").write_bytes(os.urandom(10 << 20))  # its artifact goes up in parts
    return directory


def keys_of_objects(s3, bucket):
    """The name of each object and what it is encrypted by, as boto3 sees it; we pay."""
    client, paying = s3.client(tls=True), {"Bucket": bucket, "RequestPayer": "requester"}
    heads = {entry["Key"].rpartition("/")[2]: client.head_object(**paying, Key=entry["Key"])
             for entry in client.list_objects_v2(**paying).get("Contents", [])}
    return {name: (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) for name, head in heads.items()}


def test_encrypted_by_a_kms_key(s3, bucket, make_publisher, tmp_path):
    """Whatever is written, in one piece and in parts, is encrypted by the key that the URL names; reading needs no key."""
    publisher = make_publisher(f"s3://{bucket}/deploy?kms-key={KEY}", slipway.store_environment(s3))
    publisher.release(tree(tmp_path / "tree", large=True), "one")
    assert publisher.verify()["verified"]
    kinds = keys_of_objects(s3, bucket)
    assert len(kinds) == 6 and set(kinds.values()) == {("aws:kms", KEY)}, kinds

    plain = make_publisher(f"s3://{bucket}/deploy", slipway.store_environment(s3))
    assert [m["release"] for m in json.loads(plain.run("log", *plain.channel_args(), "--json").stdout)["manifests"]] == ["one"]
    store = formats.S3Store(s3.client(tls=True), bucket)
    assert formats.read_release(store, [publisher.key.public])[0]["release"]["id"] == "one"


def test_kms_key_that_is_none(s3, bucket, boto, make_publisher, tmp_path):
    for n, large in enumerate((False, True)):
        publisher = make_publisher(f"s3://{bucket}/deploy?kms-key=no-such-key", slipway.store_environment(s3))
        result = publisher.release(tree(tmp_path / f"tree-{n}", large=large), "one", check=False)
        assert result.rc == 1 and "InvalidArgument: Failed to retrieve the actual key, kms-keyid: no-such-key" in result.stderr
    assert "Contents" not in boto.list_objects_v2(Bucket=bucket)
    assert not boto.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_requester_pays(s3, foreign, make_publisher, tmp_path):
    """Nothing goes through without the word that we pay; with it, all does."""
    silent = make_publisher(foreign.url, slipway.store_environment(s3))
    for result in (silent.release(tree(tmp_path / "tree"), "one", check=False),
                   silent.run("log", *silent.channel_args(), check=False)):
        assert result.rc == 1 and "AccessDenied" in result.stderr, result
    assert not keys_of_objects(s3, foreign.name)

    paying = make_publisher(f"{foreign.url}?requester-pays=true", slipway.store_environment(s3))
    paying.release(tree(tmp_path / "large", large=True), "one")
    assert paying.verify()["verified"]
    paying.run("halt", *paying.channel_args(), "the fair")
    paying.run("unhalt", *paying.channel_args())


def test_owner_of_the_bucket(s3, foreign, make_publisher, tmp_path):
    """A bucket of somebody else than expected is neither read nor written."""
    publisher = make_publisher(f"{foreign.url}?requester-pays=true&owner={OWNER}", slipway.store_environment(s3))
    publisher.release(tree(tmp_path / "tree"), "one")
    other = make_publisher(f"{foreign.url}?requester-pays=true&owner={OTHER}", slipway.store_environment(s3))
    for result in (other.release(tree(tmp_path / "tree"), "two", check=False),
                   other.run("log", *other.channel_args(), check=False)):
        assert result.rc == 1 and "AccessDenied" in result.stderr, result
    assert set(keys_of_objects(s3, foreign.name)) == {"artifact.tar.zst", "index", "provenance.json", "manifest.json", "1.json",
                                                    "halt.json"}


def test_the_agent_there(s3, foreign, host, make_publisher, tmp_path):
    """It reads what is encrypted, pays, knows whose the bucket is, and has its report encrypted."""
    url = f"{foreign.url}?kms-key={OTHER_KEY}&requester-pays=true&owner={OWNER}"
    publisher = make_publisher(url, slipway.store_environment(s3))
    spec = {"activate": {"units": [{"name": "web.service", "action": "restart"}], "health": {"bake": "100ms"}}}
    publisher.release(tree(tmp_path / "tree"), "one", spec=spec)
    web = toy.Toy(host, formats.S3Store(foreign.client, foreign.name))
    toy.configure([web], url=url, environment=slipway.store_environment(s3))
    host.write("/etc/slipway/trust/root.json", publisher.root_path.read_bytes())
    host.start_unit("slipwayd.service")
    web.assert_whole("one")
    wait_for(lambda: f"{host.name}.json" in keys_of_objects(s3, foreign.name), WAIT_SEC, "the instance to report")
    host.stop_unit("slipwayd.service")
    assert set(keys_of_objects(s3, foreign.name).values()) == {("aws:kms", OTHER_KEY)}
