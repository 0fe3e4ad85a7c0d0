#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: trust roots, and the chain of them.

    test_trust.py PROGRAM [TEST...]
"""

import base64
import json
import shutil

from publish import Case, main


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


if __name__ == "__main__":
    main()
