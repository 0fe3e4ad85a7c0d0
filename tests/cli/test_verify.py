#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: verify: a channel, and a whole store.

    test_verify.py PROGRAM [TEST...]
"""

import base64
import hashlib
import json
import os
import pathlib
import shutil

from publish import Case, b64, main


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


if __name__ == "__main__":
    main()
