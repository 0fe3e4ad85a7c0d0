#!/usr/bin/env python3
"""The real slipway-publish on file:// stores: import, from CodeDeploy and others.

    test_import.py PROGRAM [TEST...]
"""

import json

from publish import Case, main

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


if __name__ == "__main__":
    main()
