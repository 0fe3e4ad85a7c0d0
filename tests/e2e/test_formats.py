"""The second implementation of the formats: it agrees with itself, with tar and zstd, and with slipway-publish."""

import dataclasses
import subprocess

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement, statement_pb2

import application
import formats
import slipway

ENTRIES = [formats.Entry("a", "d"), formats.Entry("a/large", content=bytes(range(256)) * 40000),
           formats.Entry("a/link", "l", link="large"), formats.Entry("ü" * 60, content=b"long name\n", mode=0o755)]


@pytest.mark.parametrize("key_type", ["ed25519", "ecdsa-p256"])
def test_reads_what_it_writes(any_store, key_type):
    store, _ = any_store
    key = formats.Key.new(key_type)
    formats.publish(store, formats.make_release(ENTRIES, "r1"), [key])
    payload, found = formats.read_release(store, [key.public])
    assert payload["release"]["id"] == "r1"
    assert [(e.path, e.type, e.content, e.link) for e in found.values()] == [
        (e.path, e.type, e.content, e.link) for e in ENTRIES]
    with pytest.raises(formats.FormatError, match="none of the keys"):
        formats.read_release(store, [formats.Key.new().public])


def test_damage_is_seen():
    artifact, index = formats.make_artifact(ENTRIES)
    with pytest.raises(formats.FormatError, match="frame 0 has another digest"):
        formats.read_artifact(artifact[:20] + bytes([artifact[20] ^ 1]) + artifact[21:], index)
    index.files[1] = dataclasses.replace(index.files[1], mode=0o755)
    with pytest.raises(formats.FormatError, match="differs from the index"):
        formats.read_artifact(artifact, index)


def test_tar_unpacks_it(tmp_path):
    artifact, _ = formats.make_artifact(ENTRIES)
    (tmp_path / "x.tar.zst").write_bytes(artifact)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--zstd", "-xf", tmp_path / "x.tar.zst", "-C", tmp_path / "out"], check=True)
    found = formats.tree_entries(tmp_path / "out")
    assert [(e.path, e.content, e.link, e.file_mode) for e in found] == [
        (e.path, e.content, e.link, e.file_mode) for e in ENTRIES]


def test_tree_is_read_in_index_order(tmp_path):
    tree = application.small_tree(tmp_path / "tree", "1")
    paths = [e.path for e in formats.tree_entries(tree)]
    assert paths == ["data", "data/numbers.txt", "latest", "server.js", "start.sh", "version.json"]


def entries_by_path(entries):
    return {e.path: (e.type, e.content, e.link, e.file_mode) for e in entries}


def test_reads_what_the_publisher_wrote(any_store, make_publisher, tmp_path):
    store, environment = any_store
    publisher = make_publisher(store.url, environment)
    tree = application.small_tree(tmp_path / "tree", "1")
    published = publisher.release(tree, "r1", "--window", "Mon-Thu 09:00-16:00", "--window", "daily 23:00-24:00")
    payload, found = formats.read_release(store, [publisher.key.public])
    assert payload["rollout"] == {"window": ["Mon-Thu 09:00-16:00", "daily 23:00-24:00"]}
    assert payload["release"]["id"] == "r1" and payload["serial"] == published["serial"] == 1
    assert payload["activate"]["units"] == slipway.UNITS["activate"]["units"]
    assert entries_by_path(found.values()) == entries_by_path(formats.tree_entries(tree))


def test_provenance_is_what_others_read(any_store, make_publisher, tmp_path):
    """By the specifications' own types: whoever reads statements of in-toto with SLSA's predicate reads ours."""
    store, environment = any_store
    publisher = make_publisher(store.url, environment)
    published = publisher.release(application.small_tree(tmp_path / "tree", "1"), "r1", environment={
        "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/web",
        "GITHUB_WORKFLOW_REF": "acme/web/.github/workflows/ci.yml@refs/heads/main", "GITHUB_SHA": "1" * 40,
        "GITHUB_REF": "refs/heads/main", "GITHUB_RUN_ID": "77"})
    said = formats.open_envelope(store.get(published["provenance"]["path"]), formats.STATEMENT_TYPE, [publisher.key.public])
    read = json_format.ParseDict(said, statement_pb2.Statement())
    statement.Statement.copy_from_pb(read).validate()
    assert [(s.name, dict(s.digest)) for s in read.subject] == [
        ("artifact.tar.zst", {"sha256": published["artifact"]["sha256"]}), ("index", {"sha256": published["index"]["sha256"]})]
    # ParseDict() refuses members that the type does not have
    predicate = json_format.ParseDict(said["predicate"], provenance_pb2.Provenance())
    [source] = predicate.build_definition.resolved_dependencies
    assert (source.uri, dict(source.digest)) == ("git+https://github.com/acme/web", {"gitCommit": "1" * 40})
    assert dict(predicate.build_definition.external_parameters) == {"app": "web", "release": "r1", "ref": "refs/heads/main"}
    assert predicate.run_details.builder.id == "https://github.com/acme/web/.github/workflows/ci.yml@refs/heads/main"
    assert predicate.run_details.metadata.invocation_id == "https://github.com/acme/web/actions/runs/77"
    assert predicate.run_details.metadata.started_on.seconds > 0


def test_publisher_reads_what_it_wrote(any_store, make_publisher):
    store, environment = any_store
    publisher = make_publisher(store.url, environment)
    formats.publish(store, formats.make_release(ENTRIES, "r1", window=["Sat,Sun 22:00-04:00"]), [publisher.key])
    assert publisher.verify()["window"] == ["Sat,Sun 22:00-04:00"]
    formats.publish(store, formats.make_release(ENTRIES, "r2", serial=2, deployment=2), [formats.Key.new()])
    unverified = 4
    assert publisher.verify(check=False).rc == unverified


def test_trust_roots_agree(any_store, make_publisher, tmp_path):
    store, environment = any_store
    publisher = make_publisher(store.url, environment)
    publisher.root_path.write_bytes(formats.trust_root([publisher.key, formats.Key.new("ecdsa-p256")]))
    formats.publish(store, formats.make_release(ENTRIES, "r1"), [publisher.key])
    publisher.verify()


def test_reads_the_large_application(any_store, make_publisher, releases):
    store, environment = any_store
    publisher = make_publisher(store.url, environment)
    publisher.release(releases.first(), "r1")
    publisher.release(releases.second(), "r2")
    _, found = formats.read_release(store, [publisher.key.public])
    assert entries_by_path(found.values()) == entries_by_path(formats.tree_entries(releases.second()))
