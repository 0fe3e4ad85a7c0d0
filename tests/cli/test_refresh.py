#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: refresh.

    test_refresh.py PROGRAM [TEST...]
"""

import base64
import concurrent.futures
import json
import shlex
import shutil
import time

from publish import Case, b64, main

N_RACERS = 6


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
        lines = [shlex.join([str(self.PROGRAM), *map(str, command)]) for command in commands]
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


if __name__ == "__main__":
    main()
