"""What the tests of slipway-publish share. Prints its cases the way cmocka does, for count.py."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest


class Result:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    @property
    def json(self):
        return json.loads(self.out)


def b64(text):
    return base64.b64encode(text).decode()


class Case(unittest.TestCase):
    """A publisher with a key, a trust root and an application, in a directory of its own."""

    PROGRAM = None

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
        result = Result(subprocess.run([self.PROGRAM, *map(str, arguments)], cwd=self.dir, text=True, env=self.env | (env or {}),
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


class CmockaResult(unittest.TextTestResult):
    """One "[ RUN ]" and one "[ OK ]" line a case, as cmocka writes them."""

    def startTest(self, test):
        super().startTest(test)
        print(f"[ RUN      ] {test.id().removeprefix('__main__.')}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        print(f"[       OK ] {test.id().removeprefix('__main__.')}", flush=True)


def main():
    """The cases of the module that is run."""
    Case.PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=0, testRunner=unittest.TextTestRunner(resultclass=CmockaResult, verbosity=0))
