#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: halt, promote, rollback, and several who publish at once.

    test_channel.py PROGRAM [TEST...]
"""

import concurrent.futures
import json
import shutil
import time

from publish import Case, main

N_RACERS = 6
N_RACES = 5


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


if __name__ == "__main__":
    main()
