#!/usr/bin/env python3
"""Drives the real slipway-publish on file:// stores: test_publish.py PROGRAM [TEST...]

Prints its cases the way cmocka does, for count.py.
"""

import base64
import concurrent.futures
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import zipfile

PROGRAM = None
SPEC_PAGE = pathlib.Path(__file__).resolve().parents[2] / "publisher/slipway.json.5.scd"
VERBS = ["keygen", "trust init", "trust show", "trust edit", "trust sign", "trust publish", "import", "release", "promote", "rollback", "refresh",
         "verify", "log"]
N_RACERS = 6
N_RACES = 5


class Result:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    @property
    def json(self):
        return json.loads(self.out)


def b64(text):
    return base64.b64encode(text).decode()


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="slipway-cli."))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.store = self.dir / "store"
        self.tmp = self.dir / "tmp"
        for path in (self.store, self.tmp):
            path.mkdir()
        # A clean environment: the test itself may run in a CI, whose variables would be taken.
        self.env = {k: v for k, v in os.environ.items()
                    if k in ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")}
        self.env |= {"TMPDIR": str(self.tmp), "HOME": str(self.dir), "GIT_CEILING_DIRECTORIES": "/",
                     "LC_ALL": "C.UTF-8"}
        self.program("keygen", "deploy", code=0)
        self.program("trust", "init", "--key", "deploy.pub", "-o", "root.json", code=0)
        self.tree = self.make_tree()

    def tearDown(self):
        self.assertEqual(list(self.tmp.iterdir()), [], "left in TMPDIR")

    def program(self, *arguments, code=None, env=None, **kwargs):
        result = Result(subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.dir, text=True, env=self.env | (env or {}),
                                       stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, **kwargs))
        if code is not None:
            self.assertEqual(result.code, code, f"{arguments}: {result.out}{result.err}")
        return result

    def make_tree(self, name="app", **files):
        tree = self.dir / name
        (tree / "bin").mkdir(parents=True, exist_ok=True)
        (tree / "bin/run").write_text("#!/bin/sh\necho one\n")
        (tree / "bin/run").chmod(0o755)
        (tree / "data.bin").write_bytes(bytes(range(256)) * 2000)
        (tree / "empty").write_bytes(b"")
        (tree / "gr\u00fc\u00df.txt").write_text("umlauts")
        if not (tree / "current").is_symlink():
            (tree / "current").symlink_to("bin/run")
        (tree / "slipway.json").write_text('{"activate": {"units": [{"name": "web.service", "action": "restart"}]}}')
        for path, content in files.items():
            (tree / path).write_text(content)
        return tree

    def at(self, channel="prod"):
        return ["--store", f"file://{self.store}", "--app", "web", "--channel", channel]

    def release(self, *arguments, path=None, key="deploy.key", channel="prod", code=0, env=None):
        return self.program("release", *self.at(channel), "--key", key, "--json", *arguments, path or self.tree, code=code,
                            env=env)

    def verify(self, code=0, trust="root.json", channel="prod"):
        return self.program("verify", *self.at(channel), "--trust", trust, "--json", code=code)

    def log(self, channel="prod"):
        return self.program("log", *self.at(channel), "--json", "-n", 1000, code=0).json["manifests"]

    def channel_file(self, name, channel="prod"):
        return self.store / "web/channels" / channel / name

    def manifest(self, name="manifest.json", channel="prod"):
        envelope = json.loads(self.channel_file(name, channel).read_text())
        return json.loads(base64.b64decode(envelope["payload"]))

    def resign(self, key, name, channel="prod", **changes):
        """A manifest of the channel, altered and signed by a key; Slipway would not write it."""
        path = self.channel_file(name, channel)
        payload = base64.b64encode(json.dumps(self.manifest(name, channel) | changes, separators=(",", ":")).encode()).decode()
        raw = base64.b64decode(payload)
        kind = b"application/vnd.slipway.manifest+json"
        (self.dir / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(raw), raw))
        subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", f"{key}.key", "-in", "pae", "-out", "signature"],
                       cwd=self.dir, check=True)
        path.write_text(json.dumps({"payload": payload, "payloadType": kind.decode(), "signatures": [
            {"keyid": "", "sig": base64.b64encode((self.dir / "signature").read_bytes()).decode()}]}))

    def assert_says(self, result, *texts):
        last = result.err.strip().splitlines()[-1]
        for text in texts:
            self.assertIn(text, last)


class Usage(Case):
    def test_help_fits_a_screen(self):
        for verb in ["", *VERBS]:
            out = self.program(*verb.split(), "--help", code=0).out
            self.assertLessEqual(len(out.splitlines()), 30, verb)
            self.assertLessEqual(max(map(len, out.splitlines())), 80, verb)
            self.assertIn("Usage: slipway-publish", out)

    def test_version(self):
        self.assertRegex(self.program("--version", code=0).out, r"^slipway-publish \d")

    def test_wrong_usage(self):
        cases = [
            ([], "A verb is missing"),
            (["deploy"], "There is no verb 'deploy'"),
            (["trust"], "There is no verb 'trust'"),
            (["keygen"], "keygen needs NAME"),
            (["keygen", "a", "b"], "doesn't know what to do with 'b'"),
            (["keygen", "--type", "rsa", "a"], "neither ed25519 nor ecdsa-p256"),
            (["release", self.tree], "release needs --store URL"),
            (["release", *self.at(), self.tree], "release needs --key KEY"),
            (["release", *self.at(), "--key", "deploy.key"], "release needs PATH"),
            (["release", *self.at("../x"), "--key", "deploy.key", self.tree], "is not a name"),
            (["release", *self.at(), "--key", "deploy.key", "--id", "a/b", self.tree], "--id 'a/b' is not a name"),
            (["log", *self.at(), "-n", "0"], "--number '0' is not a whole number"),
            (["log", *self.at(), "--key", "x"], "log doesn't take --key"),
            (["promote", "--store", "file:///x", "--app", "a", "--from", "b", "--to", "b", "--key", "k"], "same channel"),
            (["trust", "init", "--key", "deploy.pub", "-o", "x", "--threshold", "2"], "with 1 key: --threshold '2'"),
            (["rollback", *self.at(), "--key", "deploy.key", "a b"], "can't be the id of a release"),
            (["import"], "import needs FILE"),
            (["import", "--key", "deploy.key", "appspec.yml"], "import doesn't take --key"),
        ]
        for arguments, message in cases:
            result = self.program(*arguments, code=2)
            self.assertIn(message, result.err)
            self.assertEqual(result.out, "")

    def test_stdout_full(self):
        with open("/dev/full", "w") as full:
            process = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, env=self.env, check=False)
        self.assertEqual(process.returncode, 1)


class Keys(Case):
    def openssl(self, *arguments, code=0, data=None):
        process = subprocess.run(["openssl", *map(str, arguments)], cwd=self.dir, capture_output=True, input=data, check=False)
        self.assertEqual(process.returncode, code, process.stderr)
        return process.stdout

    def test_keygen(self):
        for kind in ("ed25519", "ecdsa-p256"):
            out = self.program("keygen", kind, "--type", kind, "--json", code=0).json
            key, pub = self.dir / f"{kind}.key", self.dir / f"{kind}.pub"
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
            self.assertEqual(self.openssl("pkey", "-in", key, "-pubout").decode(), pub.read_text())
            der = self.openssl("pkey", "-pubin", "-in", pub, "-outform", "DER")
            self.assertEqual(out["id"], hashlib.sha256(der).hexdigest())
            self.assertEqual(out["type"], kind)

    def test_never_overwrites(self):
        before = (self.dir / "deploy.key").read_text()
        self.assertIn("deploy.pub exists", self.program("keygen", "deploy", code=1).err)
        (self.dir / "half.key").write_text("mine")
        result = self.program("keygen", "half", "--json", code=1)
        self.assertIn("half.key exists", result.json["error"])
        self.assertFalse((self.dir / "half.pub").exists())
        self.assertEqual((self.dir / "half.key").read_text(), "mine")
        self.assertEqual((self.dir / "deploy.key").read_text(), before)
        self.assertIn("can't make", self.program("keygen", "no/such/place", code=1).err)

    def test_keys_made_by_openssl(self):
        self.openssl("genpkey", "-algorithm", "ed25519", "-out", "ed.pem")
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ec.pem")
        for name in ("ed", "ec"):
            self.openssl("pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub")
            self.program("trust", "init", "--key", f"{name}.pub", "-o", f"{name}.json", code=0)
            self.release(key=f"{name}.pem", channel=name)
            self.verify(trust=f"{name}.json", channel=name)

    def test_signature_holds_for_openssl(self):
        self.release()
        envelope = json.loads(self.channel_file("manifest.json").read_text())
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        (self.dir / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
        (self.dir / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
        self.openssl("pkeyutl", "-verify", "-pubin", "-inkey", "deploy.pub", "-rawin", "-in", "pae", "-sigfile", "sig")

    def test_useless_keys(self):
        self.openssl("genpkey", "-algorithm", "RSA", "-out", "rsa.pem")
        (self.dir / "text").write_text("no key")
        for key in ("rsa.pem", "text", "missing.key", "deploy.pub"):
            self.assertIn(key, self.release(key=key, code=1).err)
        self.assertEqual(list(self.store.rglob("*.json")), [])


class TrustRoot(Case):
    def test_thresholds(self):
        self.program("keygen", "second", code=0)
        self.program("trust", "init", "--key", "deploy.pub", "--key", "second.pub", "--threshold", "2", "--root-key",
                     "second.pub", "--sign", "second.key", "--expires", "365d", "-o", "two.json", code=0)
        self.release()
        self.assertIn("manifest.json with serial 1", self.verify(code=4, trust="two.json").err)
        result = self.release("--trust", "two.json", code=4)
        self.assertIn("do not satisfy the trust root two.json", result.err)
        self.release("--key", "second.key", channel="other")
        found = self.verify(trust="two.json", channel="other").json
        self.assertEqual(len(found["signed_by"]), 2)

    def test_output_and_store(self):
        arguments = ["trust", "init", "--key", "deploy.pub"]
        self.assertIn("root.json exists", self.program(*arguments, "-o", "root.json", code=1).err)
        store = ["--store", f"file://{self.store}"]
        self.program(*arguments, *store, "-o", "a.json", code=0)
        self.assertEqual((self.store / "trust/1.json").read_text(), (self.dir / "a.json").read_text())
        self.program("keygen", "other", code=0)
        result = self.program("trust", "init", "--key", "other.pub", *store, "-o", "b.json", code=1)
        self.assertIn("the store has another first trust root", result.err)
        self.assertEqual((self.store / "trust/1.json").read_text(), (self.dir / "a.json").read_text())

    def test_refused(self):
        self.assertNotEqual(self.program("trust", "init", "--key", "deploy.pub", "--key", "deploy.key", "-o", "x.json").code, 0)
        self.program("trust", "init", "--key", "deploy.pub", "--expires", "2001-01-01", "-o", "x.json", code=1)
        self.program("trust", "init", "--key", "root.json", "-o", "x.json", code=1)
        self.assertFalse((self.dir / "x.json").exists())


class TrustChain(Case):
    """Three people, two of whom must sign a trust root; manifests are signed by `deploy`."""

    PEOPLE = ("alice", "bob", "carol")

    def setUp(self):
        super().setUp()
        for name in (*self.PEOPLE, "next"):
            self.program("keygen", name, code=0)
        (self.dir / "root.json").unlink()
        roots = [word for name in self.PEOPLE for word in ("--root-key", f"{name}.pub")]
        self.program("trust", "init", "--key", "deploy.pub", *roots, "--root-threshold", "2", "-o", "root.json", code=0)

    def edit(self, before, name, *changes, code=0):
        return self.program("trust", "edit", before, "-o", name, *changes, code=code)

    def sign(self, before, name, person, code=0):
        return self.program("trust", "sign", "--after", before, "--key", f"{person}.key", "--json", name, code=code)

    def publish(self, name, trust="root.json", code=0):
        return self.program("trust", "publish", "--store", f"file://{self.store}", "--trust", trust, "--json", name, code=code)

    def make(self, before, name, *changes, people=("alice", "bob")):
        self.edit(before, name, *changes)
        for person in people:
            last = self.sign(before, name, person)
        return last

    def newest(self, *arguments):
        return self.program("trust", "show", "root.json", "--store", f"file://{self.store}", "--json", *arguments, code=0).json

    def payload(self, name):
        return json.loads(base64.b64decode(json.loads((self.dir / name).read_text())["payload"]))

    def test_rotation(self):
        """The new key beside the old, each channel signed by it, the old one away."""
        self.release(path=self.tree)
        self.make("root.json", "2.json", "--add-key", "next.pub")
        self.publish("2.json")
        self.release("--trust", "root.json", "--id", "second", key="next.key")
        old = self.payload("root.json")["manifest"]["keys"][0]
        self.make("2.json", "3.json", "--remove-key", old[:8])
        self.publish("3.json")
        self.assertEqual(self.newest()["version"], 3)
        self.assertEqual(self.verify().json["serial"], 2)
        self.assertIn("do not satisfy the trust root root.json, version 3", self.release("--trust", "root.json", code=4).err)
        # Nothing of the old key's is built upon, and what it signs is found out.
        self.assert_says(self.program("rollback", *self.at(), "--key", "next.key", "--trust", "root.json", code=4),
                         "can't be built upon")
        self.release("--id", "thief")
        self.assertIn("not in the trust root", self.verify(code=4).err)
        self.assertIn("not to be trusted", self.release("--trust", "root.json", key="next.key", code=4).err)
        # Without --trust it is a warning, and the way on.
        self.release("--id", "mended", key="next.key")
        self.verify()

    def test_one_after_the_other(self):
        self.edit("root.json", "2.json", "--add-key", "next.pub")
        first = self.sign("root.json", "2.json", "alice").json
        self.assertFalse(first["complete"])
        self.assertEqual(first["signatures"], [{"version": 1, "have": 1, "need": 2}, {"version": 2, "have": 1, "need": 2}])
        self.assertEqual([key["signed"] for key in first["root"]["keys"]], [True, False, False])
        self.assertEqual(first["manifest"]["keys"][1]["change"], "added")
        self.assert_says(self.publish("2.json", code=4), "no instance would take 2.json after version 1", "1 of 2 needed")
        again = self.sign("root.json", "2.json", "alice")
        self.assertIn("has signed it already", again.err)
        self.assertFalse(again.json["complete"])
        self.assertTrue(self.sign("root.json", "2.json", "carol").json["complete"])
        self.publish("2.json")
        self.publish("2.json")
        self.assertEqual((self.store / "trust/2.json").read_text(), (self.dir / "2.json").read_text())

    def test_who_may_not_sign(self):
        self.edit("root.json", "2.json", "--add-key", "next.pub")
        before = (self.dir / "2.json").read_text()
        self.assert_says(self.sign("root.json", "2.json", "deploy", code=4), "a root key neither of version 1 nor of 2")
        self.edit("2.json", "3.json", "--remove-key", "next.pub")
        self.assert_says(self.sign("root.json", "3.json", "alice", code=4), "version 3, which can't follow version 1")
        self.assertEqual((self.dir / "2.json").read_text(), before)

    def test_root_key_lost(self):
        """Carol's key is gone: two of three are enough to put another in its place."""
        self.program("keygen", "dave", code=0)
        self.make("root.json", "2.json", "--remove-root-key", "carol.pub", "--add-root-key", "dave.pub")
        self.publish("2.json")
        self.make("2.json", "3.json", "--expires", "30d", people=("dave", "alice"))
        self.publish("3.json")
        self.assertEqual(self.newest()["version"], 3)

    def test_new_root_keys_sign_as_well(self):
        """A root whose own keys nobody has would be the last one."""
        for name in ("dave", "erin"):
            self.program("keygen", name, code=0)
        self.make("root.json", "2.json", "--remove-root-key", "alice.pub", "--remove-root-key", "bob.pub",
                  "--add-root-key", "dave.pub", "--add-root-key", "erin.pub")
        self.assert_says(self.publish("2.json", code=4), "not root keys of version 2")
        self.sign("root.json", "2.json", "dave")
        self.sign("root.json", "2.json", "erin")
        self.publish("2.json")

    def test_nobody_overwrites(self):
        self.make("root.json", "2.json", "--add-key", "next.pub")
        self.make("root.json", "mine.json", "--threshold", "1", "--expires", "90d")
        self.publish("2.json")
        self.assert_says(self.publish("mine.json", code=3), "the store has another version 2")
        self.assertEqual(self.newest("-o", "newest.json")["version"], 2)
        self.assertEqual((self.dir / "newest.json").read_text(), (self.dir / "2.json").read_text())
        self.make("newest.json", "3.json", "--expires", "90d")
        self.publish("3.json")

    def test_what_is_refused(self):
        self.make("root.json", "2.json", "--add-key", "next.pub")
        self.make("2.json", "3.json", "--remove-key", "deploy.pub")
        self.assert_says(self.publish("3.json", code=4), "no instance would take 3.json after version 1")
        self.make("root.json", "short.json", "--expires", "12h")
        self.program("trust", "init", "--key", "next.pub", "-o", "other.json", code=0)
        self.assert_says(self.publish("short.json", trust="other.json", code=4), "not root keys of version 1")
        self.assertFalse((self.store / "trust").exists())

    def test_what_can_not_be_edited(self):
        for changes, text in (
                ([], "nothing is to be changed"),
                (["--add-key", "deploy.pub"], "keys for manifests: the key deploy.pub is among them already"),
                (["--remove-key", "next.pub"], "keys for manifests: the key next.pub is not among them"),
                (["--remove-root-key", "0123456789"], "keys for trust roots: no key has an id that begins with 0123456789"),
                (["--threshold", "2"], "with 1 key: --threshold '2' is not"),
                (["--remove-root-key", "carol.pub", "--remove-root-key", "bob.pub"], "root.threshold: must be 1 to"),
                (["--remove-key", "deploy.pub"], "manifest.threshold: must be 1 to"),
                (["--expires", "2001-01-01"], "2001")):
            self.assert_says(self.edit("root.json", "x.json", *changes, code=None), text)
            self.assertFalse((self.dir / "x.json").exists())
        self.assertIn("root.json exists", self.edit("root.json", "root.json", "--expires", "9d", code=1).err)

    def test_chain_in_the_store(self):
        """What is wrong with it is an error, of which an instance only tells."""
        self.release()
        self.make("root.json", "2.json", "--add-key", "next.pub")
        self.make("2.json", "3.json", "--remove-key", "deploy.pub")
        trust = self.store / "trust"
        trust.mkdir()
        # A hole: what lies behind it is not there.
        shutil.copy(self.dir / "3.json", trust / "3.json")
        self.verify()
        # Another version under the name; other bytes; an envelope of another kind; none.
        for text in ((self.dir / "3.json").read_text(), (self.dir / "root.json").read_text(),
                     (self.dir / "2.json").read_text().replace("trust+json", "manifest+json"), "{}", "x" * (300 << 10)):
            (trust / "2.json").write_text(text)
            found = self.verify(code=4)
            self.assertIn("trust/2.json in the store", found.err)
            self.assertFalse(found.json["verified"])
        shutil.copy(self.dir / "2.json", trust / "2.json")
        self.assertIn("not in the trust root", self.verify(code=4).err)


class Halt(Case):
    def test_there_and_back(self):
        self.release()
        place = ("--store", f"file://{self.store}", "--app", "web", "--channel", "prod")
        result = self.program("halt", *place, "the fair", code=0)
        self.assertIn("web/prod is halted", result.out)
        brake = json.loads(self.channel_file("halt.json").read_text())
        self.assertEqual((brake["halted"], brake["reason"]), (True, "the fair"))
        self.assertRegex(brake["since"], r"^20\d\d-.*Z$")
        self.assertTrue(brake["by"])
        self.assertEqual(self.program("unhalt", *place, "--json", code=0).json["halted"], False)
        brake = json.loads(self.channel_file("halt.json").read_text())
        self.assertEqual((brake["halted"], "reason" in brake), (False, False))
        # Releases go on, and leave the brake alone.
        self.program("halt", *place, code=0)
        self.release()
        self.assertTrue(json.loads(self.channel_file("halt.json").read_text())["halted"])
        self.assertEqual(self.program("halt", "--app", "web", code=2).out, "")


class Release(Case):
    def test_first(self):
        result = self.release("--expires", "12h").json
        self.assertEqual((result["serial"], result["deployment"], result["reused"]), (1, 1, False))
        self.assertEqual(json.loads(self.channel_file("halt.json").read_text()), {"halted": False})
        self.assertEqual(self.channel_file("history/1.json").read_bytes(), self.channel_file("manifest.json").read_bytes())
        manifest = self.manifest()
        self.assertEqual(manifest["activate"]["units"], [{"name": "web.service", "action": "restart"}])
        artifact = self.store / manifest["release"]["artifact"]["path"]
        self.assertEqual(hashlib.sha256(artifact.read_bytes()).hexdigest(), manifest["release"]["artifact"]["sha256"])
        unpacked = self.dir / "unpacked"
        unpacked.mkdir()
        subprocess.run(["tar", "--zstd", "-xf", artifact, "-C", unpacked], check=True)
        self.assertEqual(subprocess.run(["diff", "-r", "--no-dereference", self.tree, unpacked], check=False).returncode, 0)

    def test_same_tree_same_bytes(self):
        first = self.release().json
        copy = self.dir / "copy"
        shutil.copytree(self.tree, copy, symlinks=True)
        for path in copy.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o755 if path.name == "run" else 0o600)
        again = self.release("--id", first["release"], path=copy).json
        self.assertEqual(again["artifact"], first["artifact"])
        self.assertTrue(again["reused"])
        self.assertEqual(again["serial"], 2)
        other = self.dir / "other-store"
        other.mkdir()
        third = self.program("release", "--store", f"file://{other}", "--app", "web", "--channel", "x", "--key", "deploy.key",
                             "--json", copy, code=0).json
        self.assertEqual((third["release"], third["artifact"], third["index"]),
                         (first["release"], first["artifact"], first["index"]))

    def test_same_id_after_others(self):
        """A commit that is built again gives its old bytes, whatever was released in between."""
        env = {"SOURCE_DATE_EPOCH": "1700000000"}
        first = self.release("--id", "one", env=env).json
        newer = self.make_tree("newer", **{"empty": "not any more"})
        self.release("--id", "two", path=newer, env={"SOURCE_DATE_EPOCH": "1700001000"})
        again = self.release("--id", "one", env={"SOURCE_DATE_EPOCH": "1700002000"}).json
        self.assertEqual(again["artifact"], first["artifact"])

    def test_unchanged_files_keep_their_time(self):
        self.release("--id", "one", env={"SOURCE_DATE_EPOCH": "1700000000"})
        (self.tree / "empty").write_text("changed")
        result = self.release("--id", "two", env={"SOURCE_DATE_EPOCH": "1700001000"}).json
        listing = subprocess.run(["tar", "--zstd", "-tvf", self.store / result["artifact"]["path"], "--full-time", "--utc"],
                                 check=True, capture_output=True, text=True).stdout
        times = {line.split()[5]: line.split()[4] for line in listing.splitlines()}
        self.assertEqual(times["empty"], "22:30:00")
        self.assertEqual(times["data.bin"], "22:13:20")

    def test_id_is_taken(self):
        self.release("--id", "one")
        before = {p: p.read_bytes() for p in self.store.rglob("*") if p.is_file()}
        (self.tree / "empty").write_text("changed")
        result = self.release("--id", "one", code=1)
        self.assertIn("the release one is in the store with other content", result.json["error"])
        self.assertIn("--id", result.err)
        self.assertEqual({p: p.read_bytes() for p in self.store.rglob("*") if p.is_file()}, before)
        # The index came last: without it the artifact alone decides.
        (self.store / "web/releases/one/index").unlink()
        self.assertIn("artifact.tar.zst differs", self.release("--id", "one", code=1).err)

    def test_publisher_died_during_upload(self):
        first = self.release("--id", "one").json
        (self.store / first["index"]["path"]).unlink()
        shutil.rmtree(self.store / "web/channels")
        again = self.release("--id", "one").json
        self.assertTrue(again["reused"])
        (self.store / first["artifact"]["path"]).unlink()
        self.assertFalse(self.release("--id", "one").json["reused"])
        self.verify()

    def test_source_from_git_and_ci(self):
        def git(*arguments):
            return subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments], cwd=self.tree,
                                  env=self.env | {"GIT_COMMITTER_DATE": "1700000000 +0000"}, check=True, capture_output=True,
                                  text=True).stdout.strip()
        git("init", "-q", "-b", "main")
        git("remote", "add", "origin", "https://bot:s3cret@git.example/acme/web.git")
        (self.tree / ".gitignore").write_text("*\n")
        git("add", "-f", "slipway.json")
        git("commit", "-q", "-m", "one")
        commit = git("rev-parse", "HEAD")
        build = self.tree / "dist"
        build.mkdir()
        (build / "index.html").write_text("hello")
        result = self.release(path=build, env={"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "ada"}).json
        self.assertEqual(result["release"], f"2023.11.14-{commit[:7]}")
        self.assertEqual(result["source"], {"repository": "git.example/acme/web", "commit": commit, "ref": "refs/heads/main",
                                            "by": "ada"})
        self.assertNotIn("s3cret", self.channel_file("manifest.json").read_text() + json.dumps(self.manifest()))

    def test_spec_of_the_man_page(self):
        """The page's example is what the programs take, and every member goes into the manifest."""
        example = re.search(r"^```\n(.*?)^```", SPEC_PAGE.read_text(encoding="utf-8"), re.M | re.S).group(1)
        (self.dir / "spec.json").write_text(example, encoding="utf-8")
        self.release("--spec", "spec.json")
        manifest, spec = self.manifest(), json.loads(example)
        self.assertEqual(manifest["targets"], spec["targets"])
        self.assertEqual(set(manifest["activate"]), set(spec["activate"]))
        self.assertEqual(manifest["activate"]["units"], spec["activate"]["units"])
        self.assertEqual(manifest["activate"]["variables"], spec["activate"]["variables"])

    def test_spec(self):
        (self.dir / "spec.json").write_text('{"targets": {"any": [{"Role": ["web"]}]}}')
        self.release("--spec", "spec.json")
        self.assertEqual(self.manifest()["targets"], {"any": [{"Role": ["web"]}]})
        self.assertEqual(self.manifest()["activate"]["units"], [])
        (self.tree / "slipway.json").unlink()
        self.assertIn("There is no slipway.json", self.release().err)
        cases = {
            '{"activate": {"unit": []}}': "activate.unit",
            '{"deploy": {}}': "deploy",
            '{"activate": {}, "activate": {}}': "activate",
            '{"activate": {"units": [{"name": "../web.service", "action": "restart"}]}}': "activate.units[0].name",
            '{"activate": ': "spec.json",
            "": "spec.json",
        }
        for text, message in cases.items():
            (self.dir / "spec.json").write_text(text)
            self.assert_says(self.release("--spec", "spec.json", code=1), "spec.json", message)
        (self.dir / "spec.json").write_text('{"activate": {"unit_files": ["systemd/web.service"]}}')
        self.assert_says(self.release("--spec", "spec.json", code=1), "systemd/web.service", "no file in")
        self.assert_says(self.release("--spec", "missing.json", code=1), "missing.json", "No such file")
        self.assertEqual(self.manifest()["serial"], 2)

    def test_bad_paths(self):
        self.assert_says(self.release(path="missing", code=1), "can't open missing")
        (self.dir / "nothing").mkdir()
        self.assert_says(self.release(path="nothing", code=1), "nothing in it")
        os.mkfifo(self.tree / "pipe")
        self.assert_says(self.release(code=1), "pipe")
        (self.tree / "pipe").unlink()
        (self.tree / "evil").symlink_to("../../etc/passwd")
        self.assert_says(self.release(code=1), "evil")
        self.assertFalse(self.channel_file("manifest.json").exists())

    def test_bad_stores(self):
        for url, message in (("ftp://x/y", "is not the URL of a store"), ("file:///no/such/store", "/no/such/store")):
            result = self.program("release", "--store", url, "--app", "web", "--channel", "prod", "--key", "deploy.key",
                                  self.tree, code=1)
            self.assertIn(message, result.err)

    def test_killed_leaves_no_files(self):
        (self.tree / "large").write_bytes(os.urandom(1 << 20) * 30)
        process = subprocess.Popen([PROGRAM, "release", *self.at(), "--key", "deploy.key", str(self.tree)], cwd=self.dir,
                                   env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not any(self.tmp.iterdir()) and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while any(self.tmp.iterdir()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertFalse(self.channel_file("manifest.json").exists())


class Provenance(Case):
    """The statement of where a release comes from; e2e/test_formats.py reads it by other means, and checks its signature."""

    GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/web",
              "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567", "GITHUB_REF": "refs/heads/main", "GITHUB_RUN_ID": "77",
              "GITHUB_WORKFLOW_REF": "acme/web/.github/workflows/ci.yml@refs/heads/main"}
    WORKFLOW = "https://github.com/acme/web/.github/workflows/ci.yml@refs/heads/main"
    LOCAL = "urn:slipway:builder:local"

    def statement(self, stored):
        data = (self.store / stored["path"]).read_bytes()
        self.assertEqual((len(data), hashlib.sha256(data).hexdigest()), (stored["size"], stored["sha256"]))
        return json.loads(base64.b64decode(json.loads(data)["payload"]))

    def test_says_what_was_built_and_by_whom(self):
        result = self.release("--id", "one", env=self.GITHUB).json
        stored = self.manifest()["release"]["provenance"]
        self.assertEqual(stored, result["provenance"])
        self.assertEqual(stored["path"], "web/releases/one/provenance.json")
        statement = self.statement(stored)
        self.assertEqual(statement["subject"], [
            {"name": name, "digest": {"sha256": result[kind]["sha256"]}}
            for name, kind in (("artifact.tar.zst", "artifact"), ("index", "index"))])
        definition, run = (statement["predicate"][name] for name in ("buildDefinition", "runDetails"))
        self.assertEqual(definition["externalParameters"], {"app": "web", "release": "one", "ref": "refs/heads/main"})
        self.assertEqual(definition["resolvedDependencies"], [
            {"uri": "git+https://github.com/acme/web", "digest": {"gitCommit": self.GITHUB["GITHUB_SHA"]}}])
        self.assertEqual(run["builder"], {"id": self.WORKFLOW})
        self.assertEqual(run["metadata"]["invocationId"], "https://github.com/acme/web/actions/runs/77")
        found = self.verify().json["provenance"]
        self.assertEqual(found, stored | {"builder": self.WORKFLOW, "repository": "github.com/acme/web",
                                          "commit": self.GITHUB["GITHUB_SHA"], "signed": True})
        printed = self.program("verify", *self.at(), "--trust", "root.json", code=0).out
        self.assertIn(f"provenance by {self.WORKFLOW}\n", printed)

    def test_builder_by_hand(self):
        self.assertEqual(self.statement(self.release("--id", "one").json["provenance"])["predicate"]["runDetails"]["builder"],
                         {"id": self.LOCAL})
        self.release("--id", "two", "--builder", "https://ci.example/jobs/web", env=self.GITHUB)
        self.assertEqual(self.verify().json["provenance"]["builder"], "https://ci.example/jobs/web")
        self.assert_says(self.release("--builder", "ci.example/a b", code=1), "--builder 'ci.example/a b' is not a URI")

    def test_same_again_has_the_same(self):
        first = self.release("--id", "one", env=self.GITHUB).json
        again = self.release("--id", "one", env=self.GITHUB | {"GITHUB_RUN_ID": "78"}).json
        self.assertTrue(again["reused"])
        self.assertEqual(again["provenance"], first["provenance"])
        self.assertEqual(len(list((self.store / "web/releases/one").iterdir())), 3)

    def test_another_origin_of_the_same_bytes_has_its_own(self):
        """Neither is a desk's release the pipeline's, nor the other way round; and what stays is as it was."""
        desk = self.release("--id", "one").json
        pipeline = self.release("--id", "one", env=self.GITHUB)
        self.assertIn(f"its commit is not said, not {self.GITHUB['GITHUB_SHA']}", pipeline.err)
        pipeline = pipeline.json
        self.assertTrue(pipeline["reused"])
        self.assertEqual(pipeline["artifact"], desk["artifact"])
        self.assertEqual(pipeline["provenance"]["path"],
                         f"web/releases/one/provenance-{pipeline['provenance']['sha256'][:16]}.json")
        self.assertEqual(self.verify().json["provenance"]["builder"], self.WORKFLOW)
        self.statement(desk["provenance"])
        other = self.release("--id", "one", env=self.GITHUB | {"GITHUB_WORKFLOW_REF": "acme/web/x@refs/heads/y"})
        self.release("--id", "two")
        self.assertIn("its builder is", self.release("--id", "two", "--builder", "urn:x").err)
        self.assertEqual(other.json["provenance"]["path"].count("provenance-"), 1)

    def test_another_repository_of_the_same_bytes_has_its_own(self):
        """A fork has the same commits, and one job may build both."""
        by = ("--id", "one", "--builder", "https://ci.example/web")
        first = self.release(*by, env=self.GITHUB)
        fork = self.release(*by, env=self.GITHUB | {"GITHUB_REPOSITORY": "ann/web"})
        self.assertIn("its repository is github.com/acme/web, not github.com/ann/web", fork.err)
        self.assertNotEqual(fork.json["provenance"]["path"], first.json["provenance"]["path"])
        self.assertEqual(self.verify().json["provenance"]["repository"], "github.com/ann/web")
        again = self.release(*by, env=self.GITHUB)
        self.assertEqual(again.json["provenance"], first.json["provenance"])

    def test_of_somebody_without_a_key_counts_for_nothing(self):
        self.program("keygen", "thief", code=0)
        other = self.release("--id", "one", key="thief.key", channel="thief", env=self.GITHUB).json
        mine = self.release("--id", "one", "--trust", "root.json", env=self.GITHUB).json
        self.assertNotEqual(mine["provenance"]["path"], other["provenance"]["path"])
        self.assertTrue(self.verify().json["provenance"]["signed"])
        # whatever lies there
        for n, junk in enumerate([b"", b"<html>", b"{}", b"[" * 70000]):
            place = self.store / f"web/releases/r{n}/provenance.json"
            place.parent.mkdir()
            place.write_bytes(junk)
            self.release("--id", f"r{n}")
            self.verify()
            self.assertEqual(place.read_bytes(), junk)

    def test_comes_along(self):
        first = self.release("--id", "one", env=self.GITHUB).json["provenance"]
        self.release("--id", "two")
        place = [*self.at()[:4]]
        self.program("rollback", *self.at(), "--key", "deploy.key", code=0)
        self.assertEqual(self.manifest()["release"]["provenance"], first)
        self.program("promote", *place, "--from", "prod", "--to", "live", "--key", "deploy.key", code=0)
        self.assertEqual(self.manifest(channel="live")["release"]["provenance"], first)
        # Where it is gone, an emergency goes on, and says so.
        (self.store / first["path"]).unlink()
        result = self.program("promote", *place, "--from", "prod", "--to", "live", "--key", "deploy.key", code=0)
        self.assertIn("The provenance of release one does not hold", result.err)
        # and where there never was one
        self.assertNotIn("has no provenance", result.err)
        release = self.manifest(channel="live")["release"]
        del release["provenance"]
        self.resign("deploy", "manifest.json", channel="live", release=release)
        for arguments in (["promote", *place, "--from", "live", "--to", "next"], ["rollback", *self.at("next"), "one"],
                          ["refresh", *self.at("next")]):
            result = self.program(*arguments, "--key", "deploy.key", code=0)
            self.assertIn("Release one has no provenance", result.err)

    def test_verify_finds_it_damaged(self):
        path = self.store / self.release("--id", "one").json["provenance"]["path"]
        good = path.read_bytes()
        path.write_bytes(good.replace(b'"sig":"', b'"sig":"AAAA', 1)[:len(good)])
        self.assert_says(self.verify(code=4), "one/provenance.json has not the digest")
        path.write_bytes(good + b" ")
        self.assert_says(self.verify(code=4), "one/provenance.json has not the")
        path.unlink()
        self.assert_says(self.verify(code=4), "one/provenance.json is missing")

    def test_keys_are_replaced_and_the_release_stays(self):
        self.release("--id", "one")
        self.program("keygen", "next", code=0)
        self.program("trust", "init", "--key", "next.pub", "-o", "next.json", code=0)
        self.program("rollback", *self.at(), "--key", "deploy.key", "--key", "next.key", "one", code=0)
        result = self.verify(trust="next.json")
        self.assertFalse(result.json["provenance"]["signed"])
        self.assertIn("not by the trust root's present keys", result.err)


class Archives(Case):
    def test_every_format(self):
        plain = self.release("--id", "plain", env={"SOURCE_DATE_EPOCH": "1700000000"}).json
        subprocess.run(["tar", "-cf", self.dir / "a.tar", "-C", self.tree, "."], check=True)
        subprocess.run(["tar", "-czf", self.dir / "a.tar.gz", "-C", self.tree, "."], check=True)
        subprocess.run(["tar", "-cJf", self.dir / "a.tar.xz", "-C", self.tree, "."], check=True)
        subprocess.run(["tar", "--zstd", "-cf", self.dir / "a.tar.zst", "-C", self.tree, "."], check=True)
        subprocess.run(["zip", "-qry", self.dir / "a.zip", "."], cwd=self.tree, check=True)
        for name in ("a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst", "a.zip"):
            result = self.release("--id", name, path=name, channel=name.replace(".", "-"),
                                  env={"SOURCE_DATE_EPOCH": "1700000000"}).json
            self.assertEqual(result["artifact"]["sha256"], plain["artifact"]["sha256"], name)

    def test_same_archive_same_release(self):
        subprocess.run(["tar", "-czf", self.dir / "a.tgz", "-C", self.dir, "app"], check=True)
        first = self.release(path="a.tgz").json
        second = self.release(path="a.tgz").json
        self.assertEqual((first["release"], first["artifact"]), (second["release"], second["artifact"]))
        listing = subprocess.run(["tar", "--zstd", "-tf", self.store / first["artifact"]["path"]], check=True,
                                 capture_output=True, text=True).stdout
        self.assertIn("app/bin/run\n", listing)

    def test_hostile(self):
        def tar(name, type_=tarfile.REGTYPE, link="", mode=0o644):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as t:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.mode = type_, link, mode
                t.addfile(info)
            return buffer.getvalue()
        cases = [
            (tar("/etc/evil"), "/etc/evil"),
            (tar("a/../../evil"), "a/../../evil"),
            (tar("link", tarfile.SYMTYPE, "/etc"), "link: is a symlink to /etc"),
            (tar("hard", tarfile.LNKTYPE, "../../etc/passwd"), "hard: is a hard link"),
            (tar("null", tarfile.CHRTYPE), "null: is a device"),
            (tar("root", mode=0o4755), "root: has a setuid"),
            (b"not an archive at all\n" * 100, "a.tar"),
        ]
        for data, message in cases:
            (self.dir / "a.tar").write_bytes(data)
            self.assert_says(self.release(path="a.tar", code=1), message)
        with zipfile.ZipFile(self.dir / "a.zip", "w") as z:
            z.writestr("../evil", "x")
        self.assert_says(self.release(path="a.zip", code=1), "../evil")
        self.assertEqual([p for p in self.dir.rglob("evil*")], [])


class Races(Case):
    def test_nobody_is_lost(self):
        for race in range(N_RACES):
            trees = [self.make_tree(f"racer-{i}", **{"empty": f"{race}/{i}"}) for i in range(N_RACERS)]
            with concurrent.futures.ThreadPoolExecutor(N_RACERS) as pool:
                results = list(pool.map(lambda pair: self.release("--id", f"r{race}.{pair[0]}", path=pair[1], code=None),
                                        enumerate(trees)))
            self.assertLessEqual({r.code for r in results}, {0, 3}, [r.err for r in results])
            winners = [r.json for r in results if r.code == 0]
            self.assertGreaterEqual(len(winners), 1)
            for loser in (r for r in results if r.code == 3):
                self.assertIn("another publisher was first", loser.err)
                self.assertIn(loser.json["winner"]["release"], loser.err)
                self.assertIn("Run the same command again", loser.err)
            for winner in winners:
                entry = self.manifest(f"history/{winner['serial']}.json")
                self.assertEqual(entry["release"]["id"], winner["release"])
        serials = [m["serial"] for m in self.log()]
        self.assertEqual(serials, list(range(len(serials), 0, -1)))
        self.assertEqual(len({m["release"] for m in self.log()}), len(serials))
        self.verify()

    def test_older_manifest_put_back(self):
        """The next publisher goes on above the history, not from there: instances would refuse the serial."""
        self.release("--id", "one")
        first = self.channel_file("manifest.json").read_bytes()
        self.release("--id", "two")
        self.channel_file("manifest.json").write_bytes(first)
        result = self.verify(code=4)
        self.assertIn("someone put an older one back", result.json["error"])
        third = self.release("--id", "three")
        self.assertIn("someone put an older one back", third.err)
        self.assertEqual((third.json["serial"], third.json["deployment"]), (3, 3))
        self.channel_file("manifest.json").unlink()
        self.assertEqual(self.release("--id", "four").json["serial"], 4)
        self.verify()

    def test_publisher_died_before_the_history(self):
        self.release("--id", "one")
        entry = self.channel_file("history/1.json")
        entry.unlink()
        self.assertIn("The history lacks serial 1", self.verify().err)
        self.assertEqual([m["serial"] for m in self.log()], [1])
        bytes_ = self.channel_file("manifest.json").read_bytes()
        self.release("--id", "two")
        self.assertEqual(entry.read_bytes(), bytes_)
        self.assertEqual([m["serial"] for m in self.log()], [2, 1])

    def test_history_says_otherwise(self):
        self.release("--id", "one")
        self.release("--id", "two")
        entry = self.channel_file("history/2.json")
        entry.write_bytes(entry.read_bytes() + b" ")
        self.assertIn("entry 2 differs from manifest.json", self.verify(code=4).err)
        for name in ("halt.json", "02.json", "x.json", "3.json.tmp"):
            (entry.parent / name).write_text("{}")
        self.assertEqual([m["serial"] for m in self.log()], [2, 1])


class Verify(Case):
    def setUp(self):
        super().setUp()
        (self.tree / "large").write_bytes(os.urandom(3 << 20))
        self.result = self.release("--id", "one").json

    def test_finds(self):
        found = self.verify().json
        self.assertTrue(found["verified"])
        self.assertEqual(found["release"], "one")
        out = self.program("verify", *self.at(), "--trust", "root.json", code=0).out
        for text in ("web/prod", "serial 1, deployment 1", "ed25519", "Everything holds"):
            self.assertIn(text, out)

    def test_flipped_bits(self):
        artifact = self.store / self.result["artifact"]["path"]
        good = artifact.read_bytes()
        for at in (0, 5, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[at] ^= 1
            artifact.write_bytes(bad)
            result = self.verify(code=4)
            self.assertFalse(result.json["verified"])
            self.assert_says(result, "artifact.tar.zst: frame", "differ")
        for bad in (good[:-1], good[:100], b""):
            artifact.write_bytes(bad)
            self.assert_says(self.verify(code=4), "artifact.tar.zst")
        artifact.unlink()
        self.assert_says(self.verify(code=4), "artifact.tar.zst is missing")

    def test_index(self):
        index = self.store / self.result["index"]["path"]
        good = index.read_bytes()
        index.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        self.assert_says(self.verify(code=4), "one/index has not the digest")
        index.write_bytes(good[:-1])
        self.assert_says(self.verify(code=4), "one/index has not the")
        index.unlink()
        self.assert_says(self.verify(code=4), "one/index is missing")

    def rewrite(self, **changes):
        path = self.channel_file("manifest.json")
        envelope = json.loads(path.read_text())
        payload = json.loads(base64.b64decode(envelope["payload"])) | changes
        envelope["payload"] = b64(json.dumps(payload).encode())
        path.write_text(json.dumps(envelope))

    def test_manifest(self):
        good = self.channel_file("manifest.json").read_text()
        self.rewrite(expires="2099-01-01T00:00:00Z")
        self.assert_says(self.verify(code=4), "signature")
        self.rewrite(bogus=1)
        self.assert_says(self.verify(code=4), "bogus")
        self.rewrite(channel="staging")
        self.verify(code=4)
        envelope = json.loads(good)
        envelope["signatures"] = []
        self.channel_file("manifest.json").write_text(json.dumps(envelope))
        self.assert_says(self.verify(code=4), "signature")
        for bad in ("", "{}", "[" * 1000, good[: len(good) // 2], "x" * 300000):
            self.channel_file("manifest.json").write_text(bad)
            self.assertIn("manifest.json", self.verify(code=4).err)

    def test_other_channel(self):
        """A manifest that is signed, but for another channel."""
        shutil.copytree(self.channel_file(""), self.channel_file("", "other"))
        self.assert_says(self.verify(code=4, channel="other"), "it is the manifest of web/prod")

    def test_wrong_trust(self):
        self.program("keygen", "other", code=0)
        self.program("trust", "init", "--key", "other.pub", "-o", "other.json", code=0)
        self.verify(code=4, trust="other.json")
        self.assertIn("missing.json", self.verify(code=1, trust="missing.json").err)
        self.assertIn("deploy.pub", self.verify(code=1, trust="deploy.pub").err)

    def test_nothing_there(self):
        self.assert_says(self.verify(code=1, channel="empty"), "nothing was published in web/empty")
        result = self.program("log", *self.at("empty"), code=1)
        self.assertIn("nothing was published in web/empty", result.err)

    def test_trust_guards_the_next_release(self):
        self.rewrite(expires="2099-01-01T00:00:00Z")
        self.assert_says(self.release("--trust", "root.json", code=4), "not to be trusted")
        self.assertIn("signed by none of the given keys", self.release("--id", "one").err)


class Again(Case):
    def setUp(self):
        super().setUp()
        self.release("--id", "one", channel="staging")
        (self.tree / "empty").write_text("two")
        self.release("--id", "two", channel="staging")

    def promote(self, *arguments, code=0):
        return self.program("promote", "--store", f"file://{self.store}", "--app", "web", "--from", "staging", "--to", "prod",
                            "--key", "deploy.key", "--json", *arguments, code=code)

    def rollback(self, *arguments, code=0, channel="staging"):
        return self.program("rollback", *self.at(channel), "--key", "deploy.key", "--json", *arguments, code=code)

    def test_promote(self):
        result = self.promote(code=0).json
        self.assertEqual((result["release"], result["serial"], result["from"]), ("two", 1, "staging"))
        there, here = self.manifest(channel="staging"), self.manifest()
        for name in ("artifact", "index", "id"):
            self.assertEqual(here["release"][name], there["release"][name])
        self.assertEqual(here["activate"], there["activate"])
        self.assertEqual(here["channel"], "prod")
        self.assertTrue(self.channel_file("halt.json").exists())
        self.verify()
        (self.dir / "spec.json").write_text('{"targets": {"any": [{"Stage": ["prod"]}]}}')
        self.promote("--spec", "spec.json")
        self.assertEqual(self.manifest()["targets"], {"any": [{"Stage": ["prod"]}]})

    def test_promote_nothing(self):
        result = self.program("promote", "--store", f"file://{self.store}", "--app", "web", "--from", "none", "--to", "prod",
                              "--key", "deploy.key", code=1)
        self.assertIn("nothing was published in web/none", result.err)

    def test_rollback(self):
        result = self.rollback().json
        self.assertEqual((result["release"], result["serial"], result["deployment"], result["previous"]), ("one", 3, 3, "two"))
        self.assertEqual(self.rollback("two").json["release"], "two")
        self.assert_says(self.rollback("three", code=1), "never had a release three")
        self.verify(channel="staging")
        self.promote()
        self.assert_says(self.rollback(code=1, channel="prod"), "no release to go back to")
        self.assertEqual([m["release"] for m in self.log("staging")], ["two", "one", "two", "one"])

    def test_window(self):
        """It is this order's alone: nothing that builds upon it waits by accident."""
        windows = ["Mon,Tue,Wed 09:00-16:00", "Sat 22:00-04:00"]
        given = [word for w in windows for word in ("--window", w)]
        written = ["Mon-Wed 09:00-16:00", "Sat 22:00-04:00"]
        self.assertEqual(self.release(*given, channel="staging").json["window"], written)
        self.assertEqual(self.manifest(channel="staging")["rollout"], {"window": written})
        for result, channel in ((self.promote(), "prod"), (self.rollback(), "staging")):
            self.assertNotIn("window", result.json)
            self.assertNotIn("rollout", self.manifest(channel=channel))
        self.promote(*given)
        self.assertEqual(self.manifest()["rollout"], {"window": written})
        self.assertEqual(self.rollback("two", *given).json["window"], written)
        self.assertEqual([m.get("window") for m in self.log("staging")], [written, None, written, None, None])
        self.assertEqual(self.verify(channel="staging").json["window"], written)
        verified = self.program("verify", *self.at("staging"), "--trust", "root.json", code=0).out
        self.assertRegex(verified, r"window +Mon-Wed 09:00-16:00 and Sat 22:00-04:00 \(UTC\), which (opens at|is open until) 20")

    def test_bad_window(self):
        opens = time.gmtime(time.time() + 3 * 86400)
        day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[opens.tm_wday]
        cases = [
            (["--window", "Mon-Thu"], "--window: \"Mon-Thu\" is no window like"),
            (["--window", "daily 09:00-16:00", "--window", "Mon 9-16"], "\"Mon 9-16\" is no window like"),
            (["--window", "daily 09:00-16:00"] * 17, "--window: more than 16 spans"),
            (["--window", f"{day} 00:00-24:00", "--expires", "12h"], "when the manifest has expired"),
        ]
        before = self.channel_file("manifest.json", channel="staging").read_bytes()
        for arguments, message in cases:
            self.assert_says(self.release(*arguments, channel="staging", code=1), message)
            self.assert_says(self.promote(*arguments, code=1), message)
            self.assert_says(self.rollback(*arguments, code=1), message)
        self.assertEqual(self.channel_file("manifest.json", channel="staging").read_bytes(), before)
        self.assertFalse(self.channel_file("manifest.json").exists())

    def test_who(self):
        result = self.program("rollback", *self.at("staging"), "--key", "deploy.key", "--json", code=0,
                              env={"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "grace"}).json
        self.assertEqual(result["source"]["by"], "grace")
        lines = self.program("log", *self.at("staging"), "-n", "2", code=0).out.splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[1], r"^3 +one +\S+Z +grace +-$")

    def test_artifact_went_away(self):
        (self.store / "web/releases/one/artifact.tar.zst").unlink()
        self.assert_says(self.rollback(code=1), "one can't be deployed any more", "missing")
        self.assertEqual(self.manifest(channel="staging")["serial"], 2)

    def test_forged_entries_are_not_signed(self):
        """Who can write to the store must not get an artifact signed by somebody's rollback or promotion."""
        self.program("keygen", "evil", code=0)
        evil = self.dir / "evil-store"
        shutil.copytree(self.store, evil)
        self.program("release", "--store", f"file://{evil}", "--app", "web", "--channel", "staging", "--key", "evil.key", "--id",
                     "evil", self.tree, code=0)
        shutil.copytree(evil / "web/releases/evil", self.store / "web/releases/evil")
        forged = (evil / "web/channels/staging/history/3.json").read_bytes()
        self.channel_file("history/3.json", "staging").write_bytes(forged)
        self.assert_says(self.rollback("evil", code=4), "signed by none of the given keys", "--trust")
        self.assert_says(self.rollback("evil", "--trust", "root.json", code=4), "can't be built upon")
        self.channel_file("manifest.json", "staging").write_bytes(forged)
        self.assert_says(self.promote(code=4), "signed by none of the given keys")
        self.assertFalse(self.channel_file("manifest.json").exists())

    def test_other_key_with_trust(self):
        """A promotion by another person, whose trust root has both keys."""
        self.program("keygen", "second", code=0)
        self.program("trust", "init", "--key", "deploy.pub", "--key", "second.pub", "-o", "both.json", code=0)
        arguments = ["promote", "--store", f"file://{self.store}", "--app", "web", "--from", "staging", "--to", "prod", "--key",
                     "second.key"]
        self.assertIn("--trust", self.program(*arguments, code=4).err)
        self.program(*arguments, "--trust", "both.json", code=0)
        self.verify(trust="both.json")


APPSPEC = """version: 0.0
os: linux
files:
  - source: /
    destination: /var/www/web
hooks:
  AfterInstall:
    - location: scripts/migrate.sh
      timeout: 300
      runas: web
  ApplicationStart:
    - location: scripts/start.sh
"""


class Refresh(Case):
    def setUp(self):
        super().setUp()
        self.release("--id", "one", "--expires", "20d", "--window", "daily 00:00-24:00")
        self.before = self.manifest()

    def refresh(self, *arguments, key="deploy.key", code=0):
        return self.program("refresh", *self.at(), "--key", key, "--json", *arguments, code=code)

    @staticmethod
    def lifetime_days(manifest):
        moments = [time.mktime(time.strptime(manifest[name], "%Y-%m-%dT%H:%M:%SZ")) for name in ("published", "expires")]
        return (moments[1] - moments[0]) / 86400

    def test_same_deployment(self):
        """Only serial, times and person change; it holds for as long as before."""
        found = self.refresh().json
        after = self.manifest()
        self.assertEqual((found["refreshed"], found["serial"], found["deployment"]), (True, 2, 1))
        self.assertEqual((found["expires_before"], found["expires"]), (self.before["expires"], after["expires"]))
        self.assertEqual((after["serial"], after["deployment"], self.lifetime_days(after)), (2, 1, 20))
        for manifest in (self.before, after):
            for name in ("serial", "published", "expires"):
                del manifest[name]
            del manifest["release"]["source"]["by"]
        self.assertEqual(after, self.before)
        self.assertEqual(self.channel_file("history/2.json").read_bytes(), self.channel_file("manifest.json").read_bytes())
        self.assertEqual([(m["serial"], m["deployment"]) for m in self.log()], [(2, 1), (1, 1)])
        self.verify()
        self.assertEqual(self.release("--id", "one").json["deployment"], 2)

    def test_expires(self):
        out = self.program("refresh", *self.at(), "--key", "deploy.key", "--expires", "40d", code=0).out
        self.assertEqual(self.lifetime_days(self.manifest()), 40)
        self.assertEqual(out, f"Refreshed web/prod: serial 2, deployment 1 as before (one), expires {self.manifest()['expires']}; "
                              f"before: {self.before['expires']}\n")
        self.assert_says(self.refresh("--expires", "2001-01-01", code=1), "is not in the future")

    def test_within(self):
        """Nothing to do, until the manifest's end is near."""
        there = self.channel_file("manifest.json").read_bytes()
        found = self.refresh("--within", "19d").json
        self.assertEqual((found["refreshed"], found["serial"], found["expires"]), (False, 1, self.before["expires"]))
        out = self.program("refresh", *self.at(), "--key", "deploy.key", "--within", "2w", code=0).out
        self.assertEqual(out, f"Nothing to do: serial 1 of web/prod (one) expires {self.before['expires']}, which is not within 2w\n")
        self.assertEqual(self.channel_file("manifest.json").read_bytes(), there)
        self.assertFalse(self.channel_file("history/2.json").exists())
        self.assertTrue(self.refresh("--within", "20d").json["refreshed"])
        for span in ("10", "2027-01-31", "-1d", ""):
            self.assertIn("--within", self.refresh("--within", span, code=2).err)

    def test_expired(self):
        """What has expired comes back by it."""
        self.refresh("--expires", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5)))
        limit = time.monotonic() + 20
        while self.verify(code=None).code == 0 and time.monotonic() < limit:
            time.sleep(0.1)
        self.assert_says(self.verify(code=4), "expired at", "slipway-publish refresh")
        audit = self.program("verify", "--all", "--store", f"file://{self.store}", "--trust", "root.json", code=0).out
        self.assertIn("look    web/channels/prod/manifest.json: it expired at ", audit)
        self.assertTrue(self.refresh("--within", "1d", "--expires", "9d").json["refreshed"])
        self.verify()

    def test_only_what_is_trusted(self):
        """Neither a manifest that others signed, nor one that was altered, nor an older one that was put back."""
        first = self.channel_file("manifest.json").read_bytes()
        self.program("keygen", "evil", code=0)
        self.assert_says(self.refresh(key="evil.key", code=4), "can't be built upon", "signed by none of the given keys")
        self.assert_says(self.refresh("--trust", "root.json", key="evil.key", code=4), "do not satisfy the trust root")
        self.release("--id", "one")
        second = self.channel_file("manifest.json").read_bytes()
        self.channel_file("manifest.json").write_bytes(first)
        for arguments in ([], ["--trust", "root.json"], ["--within", "1d"]):
            self.assert_says(self.refresh(*arguments, code=4), "reaches serial 2, but manifest.json is older")
        envelope = json.loads(second)
        payload = json.loads(base64.b64decode(envelope["payload"])) | {"expires": "2099-01-01T00:00:00Z"}
        envelope["payload"] = b64(json.dumps(payload).encode())
        altered = json.dumps(envelope)
        self.channel_file("manifest.json").write_text(altered)
        # also where there would be nothing to do
        for arguments in ([], ["--within", "1d"]):
            self.assert_says(self.refresh(*arguments, code=4), "can't be built upon")
        self.assert_says(self.refresh("--trust", "root.json", code=4), "not to be trusted")
        self.assertEqual(self.channel_file("manifest.json").read_text(), altered)
        self.channel_file("manifest.json").unlink()
        self.assert_says(self.refresh(code=4), "manifest.json is missing")
        shutil.rmtree(self.channel_file(""))
        self.assert_says(self.refresh(code=1), "nothing was published in web/prod")

    def test_release_is_missing(self):
        (self.store / "web/releases/one/artifact.tar.zst").unlink()
        self.assert_says(self.refresh(code=1), "can't be deployed any more", "missing")
        self.assertEqual(self.manifest()["serial"], 1)

    def test_another_key(self):
        """By the key that is to stay, while both count; two of two sign as well."""
        self.program("keygen", "next", code=0)
        for name, threshold, keys in (("both.json", 1, ("deploy", "next")), ("two.json", 2, ("deploy", "next")),
                                      ("next.json", 1, ("next",))):
            self.program("trust", "init", *(word for key in keys for word in ("--key", f"{key}.pub")), "--threshold", threshold,
                         "-o", name, code=0)
        self.verify(trust="next.json", code=4)
        self.assert_says(self.refresh(key="next.key", code=4), "--trust FILE")
        self.refresh("--trust", "both.json", key="next.key")
        self.verify(trust="next.json")
        self.refresh("--trust", "both.json", "--key", "next.key")
        self.verify(trust="two.json")
        self.assert_says(self.refresh("--trust", "two.json", code=4), "do not satisfy the trust root two.json")

    def test_race(self):
        """Of many at once each is first or lost, and no serial is lost or doubled."""
        with concurrent.futures.ThreadPoolExecutor(N_RACERS) as pool:
            results = list(pool.map(lambda i: self.program("refresh", *self.at(), "--key", "deploy.key",
                                                           env={"GITLAB_CI": "true", "GITLAB_USER_LOGIN": f"person-{i}"}),
                                    range(N_RACERS)))
        self.assertLessEqual({r.code for r in results}, {0, 3})
        n = sum(r.code == 0 for r in results)
        self.assertGreater(n, 0)
        self.assertEqual([(m["serial"], m["deployment"]) for m in self.log()], [(i, 1) for i in range(n + 1, 0, -1)])


    def meanwhile(self, *commands):
        """A directory for PATH whose git, which a release asks for its source, does this first."""
        directory = self.dir / "meanwhile"
        directory.mkdir()
        lines = [shlex.join([str(PROGRAM), *map(str, command)]) for command in commands]
        (directory / "git").write_text("\n".join(["#!/bin/sh", "exec >&2", f"cd {self.dir}", f"rm {directory}/git", *lines, "exit 1"]))
        (directory / "git").chmod(0o755)
        return {"PATH": f"{directory}:{self.env['PATH']}"}

    def test_a_release_follows_it(self):
        """A refresh that comes while a release is being made is no other publisher's decision."""
        again = ["refresh", *self.at(), "--key", "deploy.key"]
        found = self.release("--id", "two", env=self.meanwhile(again, again)).json
        self.assertEqual((found["serial"], found["deployment"], found["previous"]), (4, 2, "one"))
        self.assertEqual([(m["serial"], m["deployment"]) for m in self.log()], [(4, 2), (3, 1), (2, 1), (1, 1)])
        self.verify()

    def test_a_release_does_not_follow_another(self):
        """Also when that was refreshed, or has the same content."""
        for release in ("two", "one"):
            again = [["release", *self.at(), "--key", "deploy.key", "--id", release, self.tree],
                     ["refresh", *self.at(), "--key", "deploy.key"]]
            serial = self.manifest()["serial"]
            lost = self.release("--id", "three", env=self.meanwhile(*again), code=3)
            self.assert_says(lost, "another publisher was first", f"published {release} as serial {serial + 2}")
            self.assertEqual(self.manifest()["serial"], serial + 2)
            shutil.rmtree(self.dir / "meanwhile")


class VerifyAll(Case):
    """A store with two apps, three channels, and a history; then each thing in it is spoilt in turn."""

    def setUp(self):
        super().setUp()
        self.release("--id", "one")
        (self.tree / "empty").write_text("two")
        self.release("--id", "two")
        self.program("refresh", *self.at(), "--key", "deploy.key", code=0)
        self.program("promote", "--store", f"file://{self.store}", "--app", "web", "--from", "prod", "--to", "eu-1", "--key",
                     "deploy.key", code=0)
        self.program("release", "--store", f"file://{self.store}", "--app", "api", "--channel", "prod", "--key", "deploy.key",
                     "--id", "one", self.tree, code=0)
        self.program("trust", "edit", "-o", "2.json", "--expires", "900d", "root.json", code=0)
        self.program("trust", "sign", "--after", "root.json", "--key", "deploy.key", "2.json", code=0)
        self.program("trust", "publish", "--store", f"file://{self.store}", "--trust", "root.json", "2.json", code=0)

    def audit(self, code=0, trust="root.json"):
        return self.program("verify", "--all", "--store", f"file://{self.store}", "--trust", trust, "--json", code=code)

    def findings(self, code=0, trust="root.json"):
        found = self.audit(code, trust).json
        self.assertEqual(found["verified"], code == 0)
        self.assertEqual(found["failed"] + found["look"] + found["notes"], len(found["findings"]))
        return [(f["weight"], f["kind"], f["object"]) for f in found["findings"]]

    def text_of(self, path, code):
        return [f["text"] for f in self.audit(code).json["findings"] if f["object"] == path]

    def test_all_is_well(self):
        found = self.audit().json
        self.assertEqual(found["findings"], [])
        self.assertEqual({name: found[name] for name in ("trust_roots", "apps", "channels", "manifests", "releases")},
                         {"trust_roots": 2, "apps": 2, "channels": 3, "manifests": 5, "releases": 3})
        self.assertGreater(found["artifact_bytes"], 0)
        result = self.program("verify", "--all", "--store", f"file://{self.store}", "--trust", "root.json", code=0)
        self.assertEqual(result.err, "")
        self.assertRegex(result.out, r"^file://\S+: trust roots: 2, apps: 2, channels: 3, manifests: 5, releases that hold: 3 \(")
        self.assertIn("Everything holds; to be looked at: 0, notes: 0.", result.out)

    def test_usage(self):
        place = ["--store", f"file://{self.store}", "--trust", "root.json"]
        self.assert_says(self.program("verify", "--all", "--app", "web", *place, code=2), "takes neither --app nor --channel")
        self.assert_says(self.program("verify", "--app", "web", *place, code=2), "needs --app and --channel, or --all")
        self.assertIn("missing.json", self.audit(code=1, trust="missing.json").err)
        empty = self.dir / "empty"
        empty.mkdir()
        self.assertIn("manifests: 0", self.program("verify", "--all", "--store", f"file://{empty}", "--trust", "root.json",
                                                   code=0).out)

    def test_each_object(self):
        """A byte in the middle of each, or none of it: that one is named, and nothing else is said to fail. (A release may
        be named by no other manifest any more.)"""
        release = {"artifact.tar.zst", "index"}
        objects = sorted(p for p in self.store.rglob("*") if p.is_file() and p.name not in (".#lock", "halt.json"))
        self.assertEqual(len(objects), 3 + 5 + 6 + 3 + 1, objects)
        for path in objects:
            name = str(path.relative_to(self.store))
            said = str(pathlib.PurePath(name).parent) if path.name in release else name
            good = path.read_bytes()
            flipped = bytearray(good)
            flipped[len(good) // 2] ^= 1
            for bad in (bytes(flipped), good[:-20], b""):
                path.write_bytes(bad)
                findings = self.findings(4)
                self.assertEqual({(weight, what) for weight, _, what in findings if weight != "note"}, {("failed", said)}, (name, findings))
            path.write_bytes(good)
        self.assertEqual(self.findings(), [])

    def test_missing(self):
        for name, findings in (
                ("web/channels/prod/history/2.json", [("failed", "history", "web/channels/prod/history/2.json")]),
                ("web/channels/prod/history/1.json", [("failed", "history", "web/channels/prod/history/1.json"),
                                                      ("note", "unnamed-release", "web/releases/one")]),
                ("web/channels/prod/manifest.json", [("failed", "history", "web/channels/prod/manifest.json")]),
                ("web/releases/one/index", [("failed", "release", "web/releases/one")]),
                ("web/releases/two/artifact.tar.zst", [("failed", "release", "web/releases/two")])):
            path = self.store / name
            good = path.read_bytes()
            path.unlink()
            self.assertEqual(self.findings(4), findings, name)
            path.write_bytes(good)
        # the newest entry, which a publisher that died left out
        entry = self.channel_file("history/3.json")
        good = entry.read_bytes()
        entry.unlink()
        self.assertEqual(self.findings(), [("note", "history", "web/channels/prod/history/3.json")])
        entry.write_bytes(good)
        # what is left of a release when somebody removed it, but for its provenance
        one = self.store / "web/releases/one"
        good = {path: path.read_bytes() for path in (one / "artifact.tar.zst", one / "index")}
        for path in good:
            path.unlink()
        self.assertEqual(self.findings(), [("look", "release", "web/releases/one")])
        for path, content in good.items():
            path.write_bytes(content)
        # a release that only old manifests name, and one that is to be deployed, in two channels
        shutil.rmtree(self.store / "web/releases/one")
        self.assertEqual(self.findings(), [("look", "release", "web/releases/one")])
        shutil.rmtree(self.store / "web/releases/two")
        self.assertEqual(self.findings(4), [("failed", "release", "web/releases/two"), ("failed", "release", "web/releases/two"),
                                            ("look", "release", "web/releases/one")])

    def test_provenance(self):
        """It has to be the one that the manifest names; who signed it is only looked at."""
        one, two = (self.store / f"web/releases/{name}/provenance.json" for name in ("one", "two"))
        good = one.read_bytes()
        shutil.copy(two, one)
        self.assertEqual(self.findings(4), [("failed", "provenance", "web/releases/one/provenance.json")])
        one.unlink()
        self.assertEqual(self.findings(4), [("failed", "provenance", "web/releases/one/provenance.json")])
        signed = json.loads(good)
        signed["signatures"][0]["sig"] = b64(bytes(64))
        one.write_text(json.dumps(signed))
        release = self.manifest("history/1.json")["release"]
        release["provenance"] |= {"size": one.stat().st_size, "sha256": hashlib.sha256(one.read_bytes()).hexdigest()}
        self.resign("deploy", "history/1.json", release=release)
        self.assertEqual(self.findings(), [("look", "provenance", "web/releases/one/provenance.json")])

    def test_set_back(self):
        shutil.copy(self.channel_file("history/2.json"), self.channel_file("manifest.json"))
        self.assertEqual(self.findings(4), [("failed", "history", "web/channels/prod/manifest.json")])
        self.assertIn("reaches serial 3, but manifest.json is older", self.text_of("web/channels/prod/manifest.json", 4)[0])

    def test_entries_in_wrong_places(self):
        entry = self.channel_file("history/2.json")
        shutil.copy(self.channel_file("history/1.json"), entry)
        self.assertIn("the manifest with serial 1", self.text_of("web/channels/prod/history/2.json", 4)[0])
        shutil.copy(self.channel_file("history/1.json", "eu-1"), entry)
        self.assertIn("the manifest of web/eu-1", self.text_of("web/channels/prod/history/2.json", 4)[0])

    def test_words_of_a_stranger(self):
        """They make up no line of their own, and steer no terminal."""
        path = self.channel_file("history/1.json")
        payload = self.manifest("history/1.json") | {"app": "web\nfailed  api\x1b[2J"}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"payload": b64(json.dumps(payload).encode())}))
        out = self.program("verify", "--all", "--store", f"file://{self.store}", "--trust", "root.json", code=4).out
        self.assertNotIn("\x1b", out)
        self.assertEqual([line.split(":")[0] for line in out.splitlines() if line.startswith("failed")],
                         ["failed  web/channels/prod/history/1.json"])

    def test_order(self):
        for name, changes, text in (("history/2.json", {"deployment": 5}, "its deployment is 2, and before it was 5"),
                                    ("history/2.json", {"deployment": 1}, "its deployment 1 is of the release two, and before "
                                                                          "it was of one")):
            self.resign("deploy", name, **changes)
            said = [f["text"] for f in self.audit(4).json["findings"] if f["kind"] == "order"]
            self.assertEqual(said, [text])

    def test_other_content(self):
        """A manifest that is signed, and says something else of a release than others do."""
        other = self.manifest("history/1.json")["release"] | {"id": "two"}
        self.resign("deploy", "history/1.json", release=other)
        self.assertIn(("failed", "release", "web/channels/prod/history/1.json"), self.findings(4))

    def test_never_trusted(self):
        """What a stranger signed is not followed any further."""
        self.program("keygen", "evil", code=0)
        self.resign("evil", "history/1.json")
        self.assertEqual(self.findings(4), [("failed", "untrusted", "web/channels/prod/history/1.json"),
                                            ("note", "unnamed-release", "web/releases/one")])
        text = self.text_of("web/channels/prod/history/1.json", 4)[0]
        self.assertIn("no version of the trust root ever accepted it", text)

    def test_replaced_key(self):
        """What the old key signed is to be looked at; where it is to be deployed it fails. Each of it, until it is refreshed."""
        self.program("keygen", "next", code=0)
        for name, before, changes in (("3.json", "2.json", ("--add-key", "next.pub")), ("4.json", "3.json", ("--remove-key", "deploy.pub"))):
            self.program("trust", "edit", "-o", name, *changes, before, code=0)
            self.program("trust", "sign", "--after", before, "--key", "deploy.key", name, code=0)
            self.program("trust", "publish", "--store", f"file://{self.store}", "--trust", "root.json", name, code=0)
            if name == "3.json":
                for app, channel in (("web", "prod"), ("web", "eu-1")):
                    self.program("refresh", "--store", f"file://{self.store}", "--app", app, "--channel", channel, "--key", "next.key",
                                 "--trust", "root.json", code=0)
        self.assertEqual(self.findings(4), [
            ("failed", "older-trust", "api/channels/prod/manifest.json"), ("look", "older-trust", "api/channels/prod/history/1.json"),
            ("look", "older-trust", "web/channels/eu-1/history/1.json"), ("look", "older-trust", "web/channels/prod/history/1.json")])
        text = self.text_of("web/channels/prod/history/1.json", 4)[0]
        self.assertIn("signed as version 3 of the trust root asked (and so to 3.json)", text)
        self.assertIn("replaced, or stolen?", text)
        # who knows only the newest trust root can't tell
        self.assertIn(("failed", "untrusted", "web/channels/prod/history/1.json"), self.findings(4, trust="4.json"))

    def test_trust_roots(self):
        trust = self.store / "trust"
        shutil.copy(self.dir / "root.json", trust / "1.json")
        self.assertEqual(self.findings(), [])
        self.program("keygen", "other", code=0)
        self.program("trust", "init", "--key", "other.pub", "-o", "other.json", code=0)
        shutil.copy(self.dir / "other.json", trust / "1.json")
        shutil.copy(self.dir / "other.json", trust / "3.json")
        shutil.copy(self.dir / "other.json", trust / "5.json")
        self.assertEqual(self.findings(4), [("failed", "trust-root", f"trust/{n}.json") for n in (1, 3, 5)])
        texts = [self.text_of(f"trust/{n}.json", 4)[0] for n in (1, 3, 5)]
        for text, part in zip(texts, ("has the same version", "can't follow version 2", "nothing leads to it")):
            self.assertIn(part, text)
        for n in (3, 5):
            (trust / f"{n}.json").unlink()
        # nothing tells whether an older one than --trust's was good
        self.assertEqual(self.findings(trust="2.json"), [("note", "trust-root", "trust/1.json")])

    def test_notes(self):
        """What is there and means nothing."""
        shutil.copytree(self.store / "web/releases/one", self.store / "web/releases/left")
        (self.store / "web/releases/left/index").unlink()
        (self.store / "web/channels/new").mkdir()
        (self.store / "web/channels/new/halt.json").write_text("{}")
        for name in ("notes.txt", "web/channels/prod/history/07.json", "trust/x.json"):
            (self.store / name).write_text("x")
        self.assertEqual(self.findings(), [("note", "empty-channel", "web/channels/new"),
                                           ("note", "unnamed-release", "web/releases/left"), ("note", "other", "notes.txt")])
        self.assertEqual(self.text_of("notes.txt", 0), ["nothing of Slipway's; such objects: 3"])


class Import(Case):
    """What CodeDeploy and CodePipeline are told becomes slipway.json."""

    def setUp(self):
        super().setUp()
        self.file("appspec.yml", APPSPEC)

    def file(self, name, content):
        (self.dir / name).write_text(content)
        return name

    def test_appspec(self):
        result = self.program("import", "--unit", "web.service", "appspec.yml", code=0)
        self.assertEqual(result.json, {"activate": {
            "units": [{"name": "web.service", "action": "restart"}],
            "hooks": {"pre": [{"command": ["scripts/migrate.sh"], "user": "web", "timeout": "5min"}]}}})
        lines = result.err.splitlines()
        self.assertEqual(len(lines), 3, result.err)
        self.assertIn("appspec.yml:4: files[0] is not taken over: ", lines[0])
        self.assertIn("appspec.yml:7: hooks.AfterInstall: it is in hooks.pre", lines[1])
        self.assertIn("appspec.yml:11: hooks.ApplicationStart is not taken over: the unit", lines[2])

    def test_json(self):
        result = self.program("import", "--json", "appspec.yml", code=0)
        self.assertEqual(result.json["spec"]["activate"]["hooks"]["post"],
                         [{"command": ["scripts/start.sh"], "timeout": "1h"}])
        notes = result.json["notes"]
        self.assertEqual([(n["line"], n["setting"], n["taken"]) for n in notes],
                         [(4, "files[0]", False), (7, "hooks.AfterInstall", True), (11, "hooks.ApplicationStart", True),
                          (12, "hooks.ApplicationStart", True)])
        self.assertEqual(len(result.err.splitlines()), len(notes))
        for note in notes:
            self.assertIn(note["advice"], result.err)

    def test_released(self):
        """What comes out is what a release takes."""
        out = self.program("import", "--unit", "web.service", "-o", "app/slipway.json", "--json", "appspec.yml", code=1)
        self.assertIn("slipway.json exists", out.json["error"])
        (self.tree / "slipway.json").unlink()
        out = self.program("import", "--unit", "web.service", "-o", "app/slipway.json", "--json", "appspec.yml", code=0).json
        self.assertEqual(out["output"], "app/slipway.json")
        self.assertEqual(out["spec"], json.loads((self.tree / "slipway.json").read_text()))
        self.release()
        self.assertEqual(self.manifest()["activate"]["units"], [{"name": "web.service", "action": "restart"}])
        self.assertEqual(self.program("import", "-o", "other.json", "appspec.yml", code=0).out, "")

    def test_action(self):
        configuration = {"InstanceTagKey": "Stage", "InstanceTagValue": "prod", "InstanceType": "EC2", "MaxBatch": "2",
                         "PostScript": "scripts/start.sh", "TargetDirectory": "/home/ec2-user/deploy"}
        pipeline = {"pipeline": {"version": 3, "stages": [{"actions": [{"name": "EC2", "configuration": configuration}]}]}}
        for text in (configuration, pipeline):
            out = self.program("import", "--json", self.file("action.json", json.dumps(text, indent=4)), code=0).json
            self.assertEqual(out["spec"]["targets"], {"any": [{"Stage": ["prod"]}]})
            self.assertEqual({n["setting"] for n in out["notes"] if not n["taken"]}, {"MaxBatch", "TargetDirectory"})

    def test_refused(self):
        cases = [
            ("version: 0.0\nversion: 0.0\n", "bad.yml: line 2: version stands there twice"),
            ("a: &a [x, x]\nb: [*a, *a]\n", "bad.yml: line 1: the anchor or alias a"),
            ("version: 0.0\nhooks:\n  AfterInstall:\n    - location: a\n      timeout: [1]\n",
             "bad.yml: line 5: timeout must be a text, is a list"),
            ("version: 0.0\nos: windows\n", "bad.yml: line 2: Slipway runs on linux alone"),
            ("[" * 100000, "bad.yml: line 1: nested deeper than 16"),
            ("#" * 300000, "can't read bad.yml: File too large"),
        ]
        for text, message in cases:
            result = self.program("import", "-o", "new.json", self.file("bad.yml", text), code=1)
            self.assert_says(result, message)
            self.assertEqual(result.out, "")
            self.assertFalse((self.dir / "new.json").exists())
        self.assert_says(self.program("import", "none.yml", code=1), "can't read none.yml: No such file")
        self.assert_says(self.program("import", "--unit", "web", "appspec.yml", code=1), "activate.units[0].name", "web")


class CmockaResult(unittest.TextTestResult):
    """One "[ RUN ]" and one "[ OK ]" line a case, as cmocka writes them."""

    def startTest(self, test):
        super().startTest(test)
        print(f"[ RUN      ] {test.id().removeprefix('__main__.')}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        print(f"[       OK ] {test.id().removeprefix('__main__.')}", flush=True)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=0, testRunner=unittest.TextTestRunner(resultclass=CmockaResult, verbosity=0))
