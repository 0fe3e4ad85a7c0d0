"""Slipway's formats a second time, from their descriptions (common/index.h, dsse.h, trust.h, manifest.h), with other libraries.

Two uses: what Slipway writes is read and checked here, and stores are written here that slipway-publish would never write. What
is made is honest unless the caller alters it: an Entry's `header` changes the tar header alone, `indexed` the index alone.
"""

import base64
import copy
import dataclasses
import datetime
import hashlib
import io
import json
import os
import stat
import struct
import tarfile

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

MANIFEST_TYPE = "application/vnd.slipway.manifest+json"
TRUST_TYPE = "application/vnd.slipway.trust+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"
PROVENANCE_MAX_BYTES = 64 << 10

INDEX_HEADER = struct.Struct("<8sIIQQQ24x")
INDEX_FRAME = struct.Struct("<QII32s32s")
INDEX_FILE = struct.Struct("<HHHBxQQII32s16x")
INDEX_MAGIC = b"SLPYIDX1"
BLOCK_BYTES = 512
FRAME_TARGET_BYTES = 256 << 10
FRAME_CONTENT_MAX = 4 << 20
WINDOW_LOG = 20
TAR_TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE}


class FormatError(Exception):
    """What was read is not what the formats say; the text says where."""


def expect(condition, text):
    if not condition:
        raise FormatError(text)


def sha256(data):
    return hashlib.sha256(data).digest()


# -- keys, envelopes, trust roots

class Key:
    """A private key. `public` is its DER SubjectPublicKeyInfo, `id` the hex SHA-256 of that."""

    def __init__(self, private):
        self._private = private
        self.public = private.public_key().public_bytes(serialization.Encoding.DER,
                                                        serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = sha256(self.public).hex()
        self.type = "ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else "ecdsa-p256"

    @classmethod
    def new(cls, type="ed25519"):
        return cls(ed25519.Ed25519PrivateKey.generate() if type == "ed25519" else ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path):
        """From a PEM file as slipway-publish keygen writes it."""
        return cls(serialization.load_pem_private_key(path.read_bytes(), None))

    def save(self, path):
        """Writes NAME.key for slipway-publish."""
        pem = self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption())
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)

    def sign(self, data):
        return self._private.sign(data) if self.type == "ed25519" else self._private.sign(data, ec.ECDSA(hashes.SHA256()))


def verifies(public_der, signature, data):
    """Whether the key (DER) made the signature."""
    public = serialization.load_der_public_key(public_der)
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, data)
        else:
            public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def pae(type, payload):
    return b"DSSEv1 %d %s %d %s" % (len(type), type.encode(), len(payload), payload)


def as_bytes(payload):
    return payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()


def envelope(type, payload, keys):
    """A DSSE envelope; payload is an object or, for broken ones, bytes."""
    payload = as_bytes(payload)
    signatures = [{"keyid": k.id, "sig": base64.b64encode(k.sign(pae(type, payload))).decode()} for k in keys]
    return json.dumps({"payloadType": type, "payload": base64.b64encode(payload).decode(),
                       "signatures": signatures}).encode() + b"\n"


def open_envelope(data, type, public_keys):
    """The payload of an envelope that at least one of the keys (DER) signed."""
    outer = json.loads(data)
    expect(outer["payloadType"] == type, f"payloadType is {outer['payloadType']}")
    payload = base64.b64decode(outer["payload"], validate=True)
    signed = any(verifies(k, base64.b64decode(s["sig"]), pae(type, payload))
                 for s in outer["signatures"] for k in public_keys)
    expect(signed, "none of the keys signed the envelope")
    return json.loads(payload)


def time_text(moment):
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def after(**duration):
    """The text of a time from now on, or before now if negative: after(days=30)."""
    return time_text(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**duration))


def window_span(begin, end):
    """What a manifest says of the span between two moments, which are less than a day apart: "Mon 09:00-16:00"."""
    begin, end = (m.astimezone(datetime.timezone.utc) for m in (begin, end))
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[begin.weekday()]
    return f"{day} {begin:%H:%M}-{end:%H:%M}"


def trust_root(keys, threshold=1, signers=(), *, version=1, root_keys=None, root_threshold=1, expires=None):
    """/etc/slipway/trust/root.json for these manifest keys, or trust/VERSION.json in a store; the root keys are the same unless
    others are given."""
    root_keys = keys if root_keys is None else root_keys
    every = {k.id: k for k in [*keys, *root_keys]}
    payload = {"schema": "slipway/trust/1", "version": version, "expires": expires or after(days=3650),
               "keys": [{"id": k.id, "type": k.type, "public": base64.b64encode(k.public).decode()} for k in every.values()],
               "manifest": {"threshold": threshold, "keys": [k.id for k in keys]},
               "root": {"threshold": root_threshold, "keys": [k.id for k in root_keys]}}
    return envelope(TRUST_TYPE, payload, signers)


def root_payload(data):
    return json.loads(base64.b64decode(json.loads(data)["payload"], validate=True))


def count_root_signatures(data, root):
    """How many of the root keys of `root`, a trust root's payload, signed the trust root `data`."""
    outer = json.loads(data)
    expect(outer["payloadType"] == TRUST_TYPE, f"payloadType is {outer['payloadType']}")
    signed = pae(TRUST_TYPE, base64.b64decode(outer["payload"], validate=True))
    public = {key["id"]: base64.b64decode(key["public"]) for key in root["keys"]}
    expect(all(sha256(der).hex() == id for id, der in public.items()), "an id is not its key's")
    return sum(any(verifies(public[id], base64.b64decode(s["sig"]), signed) for s in outer["signatures"])
               for id in set(root["root"]["keys"]))


def follow_root(before, data):
    """The payload of the trust root `data`, which must follow the one with the payload `before`."""
    payload = root_payload(data)
    expect(payload["schema"] == "slipway/trust/1", f"the schema is {payload['schema']}")
    expect(payload["version"] == before["version"] + 1, f"version {payload['version']} is not the next one")
    for root in (before, payload):
        expect(count_root_signatures(data, root) >= root["root"]["threshold"],
               f"too few root keys of version {root['version']} signed it")
    return payload


# -- artifacts and indexes

@dataclasses.dataclass
class Entry:
    """One entry of an artifact. type is 'f', 'd' or 'l'. header(TarInfo) may alter what the tar says of it, `indexed` holds
    fields of IndexFile that the index says of it, None leaves it out of the index."""

    path: str
    type: str = "f"
    content: bytes = b""
    link: str = ""
    mode: int | None = None
    mtime: int = 1_700_000_000
    header: object = None
    indexed: dict | None = dataclasses.field(default_factory=dict)

    @property
    def file_mode(self):
        return {"d": 0o755, "l": 0o777}.get(self.type, 0o644) if self.mode is None else self.mode


@dataclasses.dataclass
class IndexFrame:
    offset: int
    size: int
    content_size: int
    sha256: bytes
    content_sha256: bytes


@dataclasses.dataclass
class IndexFile:
    path: str
    link: str
    type: str
    mode: int
    size: int
    mtime: int
    first_frame: int
    n_frames: int
    sha256: bytes


@dataclasses.dataclass
class Index:
    frames: list
    files: list

    def pack(self):
        strings = b"".join(f.path.encode() + f.link.encode() for f in self.files)
        parts = [INDEX_HEADER.pack(INDEX_MAGIC, len(self.frames), len(self.files), sum(f.size for f in self.frames),
                                   sum(f.content_size for f in self.frames), len(strings))]
        parts += [INDEX_FRAME.pack(f.offset, f.size, f.content_size, f.sha256, f.content_sha256) for f in self.frames]
        parts += [INDEX_FILE.pack(len(f.path.encode()), len(f.link.encode()), f.mode, ord(f.type), f.size, f.mtime,
                                  f.first_frame, f.n_frames, f.sha256) for f in self.files]
        return b"".join([*parts, strings])

    @classmethod
    def unpack(cls, data):
        magic, n_frames, n_files, artifact_size, content_size, strings_size = INDEX_HEADER.unpack_from(data)
        expect(magic == INDEX_MAGIC, f"the index begins with {magic}")
        at = INDEX_HEADER.size
        frames = [IndexFrame(*INDEX_FRAME.unpack_from(data, at + n * INDEX_FRAME.size)) for n in range(n_frames)]
        at += n_frames * INDEX_FRAME.size
        position = at + n_files * INDEX_FILE.size
        files = []
        for n in range(n_files):
            path_size, link_size, mode, type, size, mtime, first, count, digest = INDEX_FILE.unpack_from(
                data, at + n * INDEX_FILE.size)
            path = data[position:position + path_size].decode()
            link = data[position + path_size:position + path_size + link_size].decode()
            position += path_size + link_size
            files.append(IndexFile(path, link, chr(type), mode, size, mtime, first, count, digest))
        expect(position == len(data) and strings_size == position - at - n_files * INDEX_FILE.size,
               "the index's string area does not end where it says")
        expect(sum(f.size for f in frames) == artifact_size, "the index's artifact size is wrong")
        expect(sum(f.content_size for f in frames) == content_size, "the index's content size is wrong")
        return cls(frames, files)


def compress(content):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=WINDOW_LOG, write_content_size=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def tar_header(entry):
    info = tarfile.TarInfo(entry.path + ("/" if entry.type == "d" else ""))
    info.type = TAR_TYPES[entry.type]
    info.mode, info.mtime, info.linkname = entry.file_mode, entry.mtime, entry.link
    info.size = len(entry.content) if entry.type == "f" else 0
    if entry.header is not None:
        entry.header(info)
    return info.tobuf(tarfile.PAX_FORMAT)


class ArtifactWriter:
    """Frames of whole entries, about 256 KiB of content each; a large file is cut into frames of at most 4 MiB."""

    def __init__(self):
        self._frames, self._compressed = [], []
        self._offset = 0
        self._buffer = b""

    def _flush(self):
        while self._buffer:
            content, self._buffer = self._buffer[:FRAME_CONTENT_MAX], self._buffer[FRAME_CONTENT_MAX:]
            compressed = compress(content)
            self._frames.append(IndexFrame(self._offset, len(compressed), len(content), sha256(compressed), sha256(content)))
            self._compressed.append(compressed)
            self._offset += len(compressed)

    def add(self, entry):
        """Appends the entry and returns its frames as (first, number)."""
        padding = b"\0" * (-len(entry.content) % BLOCK_BYTES)
        data = tar_header(entry) + entry.content + padding
        if self._buffer and len(self._buffer) + len(data) > FRAME_TARGET_BYTES:
            self._flush()
        first = len(self._frames)
        self._buffer += data
        count = -(-len(self._buffer) // FRAME_CONTENT_MAX)
        if len(self._buffer) >= FRAME_TARGET_BYTES:
            self._flush()
        return first, count

    def finish(self):
        self._flush()
        self._buffer = b"\0" * (2 * BLOCK_BYTES)
        self._flush()
        return b"".join(self._compressed), self._frames


def make_artifact(entries):
    """The artifact of these entries, which stand in it as they are given, and its Index; returns (bytes, Index)."""
    writer, files = ArtifactWriter(), []
    for entry in entries:
        first, count = writer.add(entry)
        if entry.indexed is None:
            continue
        content = entry.content if entry.type == "f" else b""
        file = IndexFile(entry.path, entry.link, entry.type, entry.file_mode, len(content), entry.mtime, first, count,
                         sha256(content) if entry.type == "f" else bytes(32))
        files.append(dataclasses.replace(file, **entry.indexed))
    artifact, frames = writer.finish()
    return artifact, Index(frames, files)


def tree_entries(tree):
    """The entries of a directory, in the order that an index has them."""
    entries = []
    for path in sorted(tree.rglob("*"), key=lambda p: os.fsencode(p.relative_to(tree))):
        status = path.lstat()
        name = str(path.relative_to(tree))
        if stat.S_ISLNK(status.st_mode):
            entries.append(Entry(name, "l", link=os.readlink(path)))
        elif stat.S_ISDIR(status.st_mode):
            entries.append(Entry(name, "d"))
        else:
            entries.append(Entry(name, content=path.read_bytes(), mode=0o755 if status.st_mode & 0o100 else 0o644))
    return entries


def read_artifact(artifact, index):
    """Checks every frame, and that the tar stream holds just what the index says; returns path -> Entry."""
    position, contents = 0, []
    for n, frame in enumerate(index.frames):
        expect(frame.offset == position, f"frame {n} is not where the one before ends")
        compressed = artifact[position:position + frame.size]
        expect(sha256(compressed) == frame.sha256, f"frame {n} has another digest")
        contents.append(zstandard.ZstdDecompressor().decompress(compressed))
        expect((len(contents[-1]), sha256(contents[-1])) == (frame.content_size, frame.content_sha256),
               f"the content of frame {n} is another one")
        position += frame.size
    expect(position == len(artifact), "the artifact is longer than its frames")
    return read_tar(b"".join(contents), index)


def read_tar(content, index):
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for file, info in zip(index.files, tar, strict=True):
            type = {tarfile.REGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l"}.get(info.type)
            data = tar.extractfile(info).read() if type == "f" else b""
            said = (file.path, file.type, file.link, file.mode, file.mtime, file.size)
            expect(said == (info.name.rstrip("/"), type, info.linkname, info.mode, info.mtime, len(data)),
                   f"the tar's {info.name} differs from the index's {file.path}")
            expect((info.uid, info.gid) == (0, 0), f"{file.path} has an owner")
            if type == "f":
                expect(sha256(data) == file.sha256, f"{file.path} has another digest than the index says")
            found[file.path] = Entry(file.path, file.type, data, file.link, file.mode, file.mtime)
    return found


# -- stores

def stored(path, data):
    return {"path": path, "size": len(data), "sha256": sha256(data).hex()}


def manifest(app, channel, release_id, artifact, index, *, serial=1, deployment=1, activate=None, targets=None,
             window=None):
    """A manifest's payload for these bytes; alter it, then sign it with envelope(). window: a list of window_span()."""
    directory = f"{app}/releases/{release_id}"
    payload = {"schema": "slipway/manifest/1", "app": app, "channel": channel, "serial": serial, "deployment": deployment,
               "published": after(seconds=-1), "expires": after(days=30),
               "release": {"id": release_id, "artifact": stored(f"{directory}/artifact.tar.zst", artifact),
                           "index": stored(f"{directory}/index", index)}}
    if targets is not None:
        payload["targets"] = targets
    if activate is not None:
        payload["activate"] = activate
    if window is not None:
        payload["rollout"] = {"window": window}
    return payload


def statement(release, *, builder="https://ci.example/web", repository="github.com/acme/web", commit=None):
    """Where a release comes from: an in-toto Statement v1 with SLSA's predicate, as slipway-store(5) has it."""
    said = release.payload["release"]
    source = {"uri": f"git+https://{repository}"} if repository is not None else {}
    source |= {"digest": {"gitCommit": commit}} if commit is not None else {}
    return {"_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "artifact.tar.zst", "digest": {"sha256": said["artifact"]["sha256"]}},
                        {"name": "index", "digest": {"sha256": said["index"]["sha256"]}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {"buildDefinition": {"buildType": "urn:slipway:release:1",
                                              "externalParameters": {"app": release.payload["app"], "release": said["id"]},
                                              "resolvedDependencies": [source] if source else []},
                          "runDetails": {"builder": {"id": builder}}}}


def add_provenance(release, data):
    """Has the release's manifest name these bytes as its provenance."""
    release.provenance = data
    said = release.payload["release"]
    said["provenance"] = stored(f"{release.payload['app']}/releases/{said['id']}/provenance.json", data)


def check_statement(said, payload):
    """That a statement is about the release of a manifest's payload, and has the form that the specifications ask for."""
    release = payload["release"]
    expect(said["_type"] == "https://in-toto.io/Statement/v1", "it is no Statement v1")
    expect(said["predicateType"] == "https://slsa.dev/provenance/v1", "its predicate is not SLSA's")
    expect({s["name"]: s["digest"] for s in said["subject"]} ==
           {"artifact.tar.zst": {"sha256": release["artifact"]["sha256"]}, "index": {"sha256": release["index"]["sha256"]}},
           "its subjects are not the artifact and the index")
    definition = said["predicate"]["buildDefinition"]
    expect(definition["buildType"] == "urn:slipway:release:1", "its build is of another type")
    expect((definition["externalParameters"]["app"], definition["externalParameters"]["release"]) ==
           (payload["app"], release["id"]), "it is about another release")
    expect(":" in said["predicate"]["runDetails"]["builder"]["id"], "its builder is no URI")


class FileStore:
    """A store in a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.url = f"file://{directory}"

    def put(self, path, data):
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.new")
        aside.write_bytes(data)
        os.rename(aside, target)

    def get(self, path):
        return (self.directory / path).read_bytes()


class S3Store:
    """A store in a bucket, by a boto3 client."""

    def __init__(self, client, bucket, prefix="deploy"):
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self.url = f"s3://{bucket}/{prefix}"

    def put(self, path, data):
        self._client.put_object(Bucket=self._bucket, Key=f"{self._prefix}/{path}", Body=data)

    def get(self, path):
        return self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{path}")["Body"].read()


@dataclasses.dataclass
class Release:
    """A release as it lies in a store: its manifest's payload, its artifact, its index and, if it has one (add_provenance), its
    provenance, all bytes."""

    payload: dict
    artifact: bytes
    index: bytes
    provenance: bytes | None = None

    def altered(self, **members):
        """The same with other members at the manifest's top; None removes one."""
        payload = copy.deepcopy(self.payload)
        for name, value in members.items():
            if value is None:
                payload.pop(name)
            else:
                payload[name] = value
        return dataclasses.replace(self, payload=payload)


def make_release(entries, release_id, *, app="web", channel="prod", **options):
    artifact, index = make_artifact(entries)
    index = index.pack()
    return Release(manifest(app, channel, release_id, artifact, index, **options), artifact, index)


def manifest_path(app, channel):
    return f"{app}/channels/{channel}/manifest.json"


def publish(store, release, keys, *, app="web", channel="prod"):
    """Writes a release and its signed manifest; app and channel are where, whatever the manifest says."""
    body = envelope(MANIFEST_TYPE, release.payload, keys)
    store.put(release.payload["release"]["artifact"]["path"], release.artifact)
    store.put(release.payload["release"]["index"]["path"], release.index)
    if release.provenance is not None:
        store.put(release.payload["release"]["provenance"]["path"], release.provenance)
    store.put(f"{app}/channels/{channel}/halt.json", b'{"halted": false}\n')
    store.put(f"{app}/channels/{channel}/history/{release.payload['serial']}.json", body)
    store.put(manifest_path(app, channel), body)


def read_release(store, public_keys, *, app="web", channel="prod"):
    """Reads a channel's release as an agent would, checking everything; returns (manifest, path -> Entry)."""
    payload = open_envelope(store.get(manifest_path(app, channel)), MANIFEST_TYPE, public_keys)
    expect((payload["app"], payload["channel"]) == (app, channel), "the manifest is of another channel")
    objects = {}
    for name in ("artifact", "index", "provenance"):
        if name not in payload["release"]:
            continue
        said = payload["release"][name]
        objects[name] = store.get(said["path"])
        expect(stored(said["path"], objects[name]) == said, f"the {name} is not the one of the manifest")
    if "provenance" in objects:
        check_statement(open_envelope(objects["provenance"], STATEMENT_TYPE, public_keys), payload)
    return payload, read_artifact(objects["artifact"], Index.unpack(objects["index"]))
