"""The real application of the tests: a web service with its 16,000 files of npm packages, in three releases."""

import json
import os
import pathlib
import shutil
import subprocess

APP = pathlib.Path(__file__).with_name("app")
PORT = 8080
N_FILES_MIN = 10_000
N_BYTES_MIN = 300 * 1000 * 1000

UNIT = f"""\
[Unit]
Description=Web service of the tests

[Service]
Type=exec
DynamicUser=yes
Environment=PORT={PORT} NODE_ENV=production
ExecStart=/usr/bin/node /srv/web/current/server.js
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=5s

[Install]
WantedBy=multi-user.target
"""

CRASH = "throw new Error('the new configuration cannot be read');\n"


def replace(path, text):
    """Writes a file anew: the old one may be shared with another release by a hard link."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    os.rename(aside, path)


def set_version(tree, version):
    replace(tree / "version.json", json.dumps({"version": version}) + "\n")


def link_copy(source, destination):
    """A copy of a tree that shares the content of its files: change them by replace() only."""
    subprocess.run(["cp", "-al", "--", str(source), str(destination)], check=True)
    return destination


class Releases:
    """Trees of releases in a directory; made at first use, then kept. Don't write to their files in place."""

    def __init__(self, packages, directory):
        self._packages = packages
        self._directory = directory

    def _made(self, name, make):
        tree = self._directory / name
        if not tree.exists():
            partial = self._directory / f"{name}.partial"
            make(partial)
            os.rename(partial, tree)
        return tree

    def first(self):
        """Release 1: the whole application."""
        def make(tree):
            subprocess.run(["cp", "-a", "--reflink=auto", "--", str(self._packages), str(tree)], check=True)
            shutil.copy(APP / "server.js", tree / "server.js")
            set_version(tree, "1")
        return self._made("release-1", make)

    def second(self):
        """Release 2: a few files changed (one of them large), one added, one removed."""
        def make(tree):
            link_copy(self.first(), tree)
            set_version(tree, "2")
            large = tree / "node_modules/typescript/lib/typescript.js"
            text = large.read_text(encoding="utf-8")
            middle = text.index("\n", len(text) // 2) + 1
            replace(large, f"{text[:middle]}// a line that release 1 does not have\n{text[middle:]}")
            replace(tree / "node_modules/lodash/README.md", "# changed\n")
            replace(tree / "CHANGES.md", "# 2\n\nBetter than 1.\n")
            (tree / "node_modules/lodash/LICENSE").unlink()
        return self._made("release-2", make)

    def crashing(self):
        """Release 3: dies at its start."""
        def make(tree):
            link_copy(self.second(), tree)
            set_version(tree, "3")
            replace(tree / "server.js", CRASH + (APP / "server.js").read_text(encoding="utf-8"))
        return self._made("release-3", make)


def small_tree(directory, version, *, crashes=False):
    """The same kind of service without packages, for tests that need no large tree: a few files, some KiB."""
    directory.mkdir(parents=True)
    set_version(directory, version)
    (directory / "data").mkdir()
    (directory / "data/numbers.txt").write_text("".join(f"{n}\n" for n in range(5000)), encoding="ascii")
    (directory / "latest").symlink_to("data/numbers.txt")
    (directory / "start.sh").write_text("#!/bin/sh\nexec node server.js\n", encoding="ascii")
    (directory / "start.sh").chmod(0o755)
    (directory / "server.js").write_text(
        (CRASH if crashes else "")
        + "const fs = require('fs');\nconst path = require('path');\n"
        "const { version } = JSON.parse(fs.readFileSync(path.join(__dirname, 'version.json'), 'utf8'));\n"
        "const release = path.basename(fs.realpathSync(__dirname));\n"
        "require('http').createServer((request, response) => response.end(JSON.stringify({ version, release })))\n"
        "  .listen(Number(process.env.PORT || 8080));\n", encoding="ascii")
    return directory


def answer(host, path="/healthz"):
    """What the service on the host answers, as parsed JSON, or None while it does not."""
    done = host.run(["curl", "-sf", "--max-time", "5", f"http://127.0.0.1:{PORT}{path}"], check=False)
    return json.loads(done.stdout) if done.rc == 0 else None


def version(host):
    """The version that answers on the host, or None."""
    found = answer(host)
    return found["version"] if found else None
