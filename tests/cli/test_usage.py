#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: what it takes and says, and the keys that it makes.

    test_usage.py PROGRAM [TEST...]
"""

import base64
import hashlib
import json
import stat
import subprocess

from publish import Case, main

VERBS = ["keygen", "trust init", "trust show", "trust edit", "trust sign", "trust publish", "import", "release", "promote", "rollback", "refresh",
         "verify", "log"]


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
            process = subprocess.run([self.PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, env=self.env, check=False)
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


if __name__ == "__main__":
    main()
