#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: releases, their artifacts, provenance, archives of others.

    test_release.py PROGRAM [TEST...]
"""

import base64
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile

from publish import Case, main

SPEC_PAGE = pathlib.Path(__file__).resolve().parents[2] / "publisher/slipway.json.5.scd"


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

    def test_what_will_be_fetched(self):
        self.assertNotIn("fetch_bytes", self.release("--id", "one").json)
        self.assertEqual(self.release("--id", "two").json["fetch_bytes"], 0)
        (self.tree / "new.bin").write_bytes(os.urandom(100_000))
        result = self.release("--id", "three")
        self.assertTrue(100_000 < result.json["fetch_bytes"] < 105_000, result.json)
        self.assertLess(result.json["fetch_bytes"], result.json["artifact"]["size"])
        self.assertRegex(result.err, r"A host with release two fetches .* in 1 request, of ")
        # The same once more: hosts have it.
        again = self.release("--id", "three").json
        self.assertTrue(again["reused"])
        self.assertNotIn("fetch_bytes", again)

    def test_level(self):
        (self.tree / "text").write_text("".join(f"{i * i}\n" for i in range(50000)))
        default = self.release("--id", "one").json["artifact"]["size"]
        self.assertEqual(self.release("--id", "two", "--level", "3").json["artifact"]["size"], default)
        self.assertLess(self.release("--id", "three", "--level", "9").json["artifact"]["size"], default)
        for bad in ("0", "20", "x"):
            self.assertIn("--level", self.release("--level", bad, code=2).json["error"])

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

    def test_day_of_the_newest_file(self):
        """A pipeline brings files without .git, and a commit without its time."""
        for path in [self.tree, *self.tree.rglob("*")]:
            os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
        os.utime(self.tree / "empty", (1_700_000_000, 1_700_000_000))
        result = self.release(env=Provenance.GITHUB).json
        self.assertEqual(result["release"], "2023.11.14-0123456")

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
        process = subprocess.Popen([self.PROGRAM, "release", *self.at(), "--key", "deploy.key", str(self.tree)], cwd=self.dir,
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


if __name__ == "__main__":
    main()
