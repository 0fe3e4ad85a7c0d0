"""Manifests signed by keys of AWS KMS; boto3 is the other party. (Every odd answer of KMS: tests/test-kms.c.)"""

import base64
import json

import pytest

import formats
import s3_server
import toy

FAILED = 1
UNVERIFIED = 4
OTHER_REGION = "us-west-2"


class KmsKey:
    """A key in KMS, for formats: boto3 signs with it."""

    def __init__(self, client, spec="ECC_NIST_P256", usage="SIGN_VERIFY"):
        self._client = client
        self.arn = client.create_key(KeyUsage=usage, KeySpec=spec)["KeyMetadata"]["Arn"]
        self.type = "ecdsa-p256"
        self.public = client.get_public_key(KeyId=self.arn)["PublicKey"]
        self.id = formats.sha256(self.public).hex()

    def sign(self, data):
        return self._client.sign(KeyId=self.arn, Message=data, MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")["Signature"]

    def verifies(self, signature, data):
        return self._client.verify(KeyId=self.arn, Message=data, MessageType="RAW", Signature=signature,
                                   SigningAlgorithm="ECDSA_SHA_256")["SignatureValid"]


@pytest.fixture
def kms(aws):
    return aws.client("kms")


@pytest.fixture
def key(kms):
    key = KmsKey(kms)
    kms.create_alias(AliasName="alias/deploy", TargetKeyId=key.arn)
    yield key
    kms.delete_alias(AliasName="alias/deploy")


@pytest.fixture
def publisher(make_publisher, aws, tmp_path):
    (tmp_path / "store").mkdir()
    return make_publisher(f"file://{tmp_path / 'store'}", aws.environment())


@pytest.fixture
def tree(tmp_path):
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "file").write_text("content", encoding="utf-8")
    return directory


def release(publisher, tree, *keys, root=None, check=True, environment=None):
    options = [option for key in keys for option in ("--key", key)]
    options += ["--trust", root] if root else []
    return publisher.run("release", *publisher.channel_args(), *options, "--json", tree, check=check, environment=environment)


def trust_root(publisher, *keys, threshold=1):
    path = publisher.directory / f"root-{len(list(publisher.directory.iterdir()))}.json"
    options = [option for key in keys for option in ("--key", key)]
    publisher.run("trust", "init", *options, "--threshold", threshold, "-o", path)
    return path


def verify(publisher, root):
    return json.loads(publisher.run("verify", *publisher.channel_args(), "--trust", root, "--json").stdout)


def published(tmp_path):
    return formats.FileStore(tmp_path / "store").get(formats.manifest_path("web", "prod"))


def signatures(tmp_path):
    """(payload's PAE, key id to signature) of the manifest."""
    envelope = json.loads(published(tmp_path))
    return (formats.pae(formats.MANIFEST_TYPE, base64.b64decode(envelope["payload"])),
            {s["keyid"]: base64.b64decode(s["sig"]) for s in envelope["signatures"]})


@pytest.mark.parametrize("name", ["alias", "id", "arn", "alias-arn"])
def test_boto3_verifies_what_slipway_signed(publisher, key, tree, tmp_path, name):
    name = {"alias": "alias/deploy", "id": key.arn.split("/")[-1], "arn": key.arn,
            "alias-arn": key.arn.rsplit(":", 1)[0] + ":alias/deploy"}[name]
    root = trust_root(publisher, f"kms:{name}")
    release(publisher, tree, f"kms:{name}", root=root)
    signed, by = signatures(tmp_path)
    assert set(by) == {key.id} and key.verifies(by[key.id], signed)
    assert verify(publisher, root)["verified"]


def test_region_of_the_arn(publisher, aws, tree, tmp_path):
    key = KmsKey(aws.client("kms", region=OTHER_REGION))
    release(publisher, tree, f"kms:{key.arn}")
    signed, by = signatures(tmp_path)
    assert key.verifies(by[key.id], signed)
    result = release(publisher, tree, f"kms:{key.arn.split('/')[-1]}", check=False)
    assert result.rc == FAILED and "NotFoundException" in result.stderr


def test_file_and_kms_sign_together(publisher, key, tree, tmp_path):
    root = trust_root(publisher, publisher.directory / "deploy.pub", "kms:alias/deploy", threshold=2)
    release(publisher, tree, publisher.key_path, "kms:alias/deploy", root=root)
    signed, by = signatures(tmp_path)
    assert set(by) == {publisher.key.id, key.id} and key.verifies(by[key.id], signed)
    assert verify(publisher, root)["verified"]
    before = published(tmp_path)
    result = release(publisher, tree, "kms:alias/deploy", root=root, check=False)
    assert result.rc == UNVERIFIED and "do not satisfy the trust root" in result.stderr
    assert published(tmp_path) == before


def test_promote_and_roll_back(publisher, key, tree, tmp_path):
    root = trust_root(publisher, "kms:alias/deploy")
    for content in ("one", "two"):
        (tree / "file").write_text(content, encoding="utf-8")
        publisher.run("release", *publisher.channel_args(), "--key", "kms:alias/deploy", "--trust", root, "--id", content, tree)
    publisher.run("rollback", *publisher.channel_args(), "--key", "kms:alias/deploy", "--trust", root)
    signed, by = signatures(tmp_path)
    assert key.verifies(by[key.id], signed) and b'"id":"one"' in signed
    publisher.run("promote", "--store", publisher.url, "--app", "web", "--from", "prod", "--to", "canary", "--key",
                  "kms:alias/deploy", "--trust", root)
    assert formats.FileStore(tmp_path / "store").get(formats.manifest_path("web", "canary"))


def test_agent_accepts_what_boto3_signed(publisher, key, host):
    """The trust root is Slipway's, from the key in KMS; the manifest is boto3's."""
    web = toy.Toy(host, toy.local_store(host))
    web.key = key
    web.release()
    toy.configure([web])
    host.write("/etc/slipway/trust/root.json", trust_root(publisher, "kms:alias/deploy").read_bytes())
    host.start_unit("slipwayd.service")
    web.assert_whole("r1")


@pytest.mark.parametrize("spec, usage", [("RSA_2048", "SIGN_VERIFY"), ("ECC_SECG_P256K1", "SIGN_VERIFY"),
                                         ("RSA_2048", "ENCRYPT_DECRYPT")])
def test_wrong_kind_of_key(publisher, kms, tree, tmp_path, spec, usage):
    key = KmsKey(kms, spec, usage)
    result = release(publisher, tree, f"kms:{key.arn}", check=False)
    assert result.rc == FAILED and "ECC_NIST_P256" in result.stderr and key.arn in result.stderr
    assert not (tmp_path / "store/web").exists()


def test_refusals(publisher, aws, key, tree, tmp_path):
    nobody = aws.make_user("nobody")
    reader = aws.make_user("reader", {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:GetPublicKey", "Resource": "*"}]})
    forger = s3_server.User("forger", aws.owner.access_key, "another-secret")
    down = {"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}
    for environment, name, text in [
            ({}, "alias/none", "there is no such key or alias in this account and region"),
            (aws.environment(nobody), "alias/deploy", "this takes the permission kms:GetPublicKey"),
            (aws.environment(reader), "alias/deploy", "this takes the permission kms:Sign"),
            (aws.environment(forger), "alias/deploy", "the credentials in use are not taken"),
            (down, "alias/deploy", "no answer from 127.0.0.1"),
            ({"AWS_ENDPOINT_URL_KMS": "http://kms.example.com"}, "alias/deploy", "use https")]:
        result = release(publisher, tree, f"kms:{name}", check=False, environment=environment)
        assert result.rc == FAILED and text in result.stderr, result.stderr
    # Nothing was published, and nothing uploaded for it.
    assert not (tmp_path / "store/web").exists()
    assert trust_root_of(publisher, aws.environment(reader)) == key.id


def trust_root_of(publisher, environment):
    """The id of the only key in a trust root that the environment's user made: that takes no right to sign."""
    path = publisher.directory / "read.json"
    publisher.run("trust", "init", "--key", "kms:alias/deploy", "-o", path, environment=environment)
    return json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))["keys"][0]["id"]
