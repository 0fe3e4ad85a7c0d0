#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Completes lines with a completion script for bash, and compares it and the one for zsh with the program's --help.

    check-completion.py PROGRAM SCRIPT.bash _SCRIPT
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from help_text import option_lines, shown_by, verbs_in

# what is no JSON
TEXT_ONLY = {"report", "metrics"}

PROGRAM = BASH = ZSH = NAME = None

# What slipway writes for people's programs and in one line; the texts try to look like what is looked for.
STATUS = r'''{
	"version":	"0.1.0",
	"apps":	[{
			"root":	"/srv/web",
			"state":	{
				"app":	"web",
				"current":	"r2"
			},
			"poll":	{
				"text":	"a text, with \"app\":\t\"no-app\", in it"
			}
		}, {"state":{"app":"api","channel":"prod"}}]
}'''
RELEASES = '[{"release":"2026.11.22-1f3a9c2","deployment":41,"activate":{}},{\n\t"release":\t"r2"\n}]'

FAKE = f"""#!/bin/sh
echo "$*" >>"$0.asked"
case "$*" in
*status) cat <<'END'
{STATUS}
END
;;
*"releases web") cat <<'END'
{RELEASES}
END
;;
*) exit 3 ;;
esac
"""

# The function that `complete` names gets what bash would give it; bash itself cuts COMP_WORDS at more than blanks.
COMPLETE = r"""
set -u
source "$1"
line=$2 name=$3
[[ $(complete -p "$name") =~ -F\ ([^ ]+) ]] || exit 1
COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<<"$line"
[[ $line != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"${BASH_REMATCH[1]}" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || exit 1
printf '%s\n' "${COMPREPLY[@]}"
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="slipway-completion."))
        self.addCleanup(shutil.rmtree, self.dir)
        self.fake = self.dir / "bin/slipway"
        self.fake.parent.mkdir()
        self.fake.write_text(FAKE)
        self.fake.chmod(0o755)
        self.work = self.dir / "work"
        self.work.mkdir()
        (self.work / "root.json").touch()
        (self.work / "with blank.json").touch()
        (self.work / "sub").mkdir()

    def complete(self, line):
        done = subprocess.run(["bash", "--norc", "-c", COMPLETE, "bash", BASH, line, NAME], cwd=self.work, timeout=30,
                              env={"PATH": f"{self.fake.parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), line)
        return [word.rstrip() for word in done.stdout.splitlines() if word]

    def assert_completes(self, line, *words):
        self.assertEqual(sorted(self.complete(line)), sorted(words), line)

    def asked(self):
        asked = pathlib.Path(f"{self.fake}.asked")
        text = asked.read_text() if asked.exists() else ""
        asked.unlink(missing_ok=True)
        return text.splitlines()

    def verbs(self):
        return verbs_in(shown_by(PROGRAM), PROGRAM)

    def options(self):
        """All options of all verbs."""
        text = shown_by(PROGRAM)
        if "VERB --help" in text:
            text += "".join(shown_by(PROGRAM, *verb.split()) for verb in sorted(self.verbs()))
        return set(option_lines(text))


class Both(Case):
    """What holds for each program."""

    def test_verbs(self):
        verbs = self.verbs()
        self.assertGreater(len(verbs), 5)
        self.assert_completes(f"{NAME} ", *{verb.split()[0] for verb in verbs})
        for verb in verbs:
            words = verb.split()
            self.assertIn(words[0], self.complete(f"{NAME} {words[0][:2]}"))
            if len(words) > 1:
                self.assertIn(words[1], self.complete(f"{NAME} {words[0]} "))
        self.assert_completes(f"{NAME} nothing-begins-so")

    def test_zsh_knows_all(self):
        text = pathlib.Path(ZSH).read_text()
        self.assertTrue(text.startswith(f"#compdef {NAME}\n"))
        for verb in self.verbs():
            self.assertRegex(text, rf"'{verb.split()[0]}:[^']")
        named = {f"--{name}" for name in re.findall(r"(?<![\w-])--([a-z][a-z-]*)(?=\[|'|\})", text)}
        self.assertEqual(named, self.options() | {"--version"})

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not here")
    def test_zsh_takes_it(self):
        subprocess.run(["zsh", "-n", ZSH], check=True, timeout=30)


class Agent(Case):
    """slipway: one --help, which says to which verbs an option belongs."""

    def test_options(self):
        general, special = set(), {}
        for option, text in option_lines(shown_by(PROGRAM)).items():
            belongs = re.match(r"of ([a-z]+)(?: and ([a-z]+))?:", text)
            if belongs:
                special[option] = {verb for verb in belongs.groups() if verb}
            else:
                general.add(option)
        self.assertIn("--json", general)
        self.assertIn("--until", special)
        self.assert_completes(f"{NAME} -", *general, *special)
        for verb in self.verbs() - {"exec"}:
            for_all = general - {"--json"} if verb in TEXT_ONLY else general
            self.assert_completes(f"{NAME} {verb} -", *for_all, *(o for o, verbs in special.items() if verb in verbs))
        self.assert_completes("slipway hold --u", "--user", "--until")

    def test_applications(self):
        for verb in self.verbs() - {"check", "exec"} - TEXT_ONLY:
            self.assert_completes(f"{NAME} {verb} ", "api", "web")
            self.assertEqual(self.asked(), ["--json status"])
        self.assert_completes("slipway status w", "web")
        self.assert_completes("slipway --user status --config /x w", "web")
        self.assertEqual(self.asked()[1:], ["--json --user --config /x status"])
        self.assert_completes("slipway hold --until 2026-11-22T15:00:00Z --reason w w", "web")
        self.assert_completes("slipway status web ")
        self.assert_completes("slipway check ")
        self.assert_completes("slipway report ")

    def test_releases(self):
        for verb in ("rollback", "verify"):
            self.assert_completes(f"slipway {verb} web ", "2026.11.22-1f3a9c2", "r2")
            self.assert_completes(f"slipway {verb} web 2026.11.", "2026.11.22-1f3a9c2")
            self.assert_completes(f"slipway {verb} no-app ")
            self.assert_completes(f"slipway {verb} web r2 ")

    def test_nobody_answers(self):
        self.fake.write_text("#!/bin/sh\necho 'it does not run' >&2\nexit 6\n")
        self.assert_completes("slipway status ")

    def test_files(self):
        for option in ("--file", "--index", "--manifest", "--config"):
            self.assert_completes(f"slipway deploy web {option} ", "root.json", "with blank.json", "sub")
            self.assert_completes(f"slipway deploy web {option}=r", "root.json")
        self.assert_completes("slipway report --output r", "root.json")
        self.assert_completes("slipway hold web --until ")
        self.assert_completes("slipway exec ", "sub")
        self.assert_completes("slipway exec sub r", "root.json")


class Publisher(Case):
    """slipway-publish: each verb has a --help."""

    def test_options(self):
        for verb in self.verbs():
            self.assert_completes(f"{NAME} {verb} -", *option_lines(shown_by(PROGRAM, *verb.split())))
            self.assertIn("--json", self.complete(f"{NAME} {verb} --json --j"))
        self.assert_completes(f"{NAME} -", "--help", "--version")

    def test_values(self):
        files = ("root.json", "with blank.json", "sub")
        self.assert_completes("slipway-publish release --store s3://a/b --key ", *files)
        self.assert_completes("slipway-publish release --store s3://a/b --key r", "root.json")
        self.assert_completes("slipway-publish release --trust=r", "root.json")
        self.assert_completes("slipway-publish trust init -o ", *files)
        self.assert_completes("slipway-publish release --json ", *files)
        self.assert_completes("slipway-publish import ", *files)
        self.assert_completes("slipway-publish keygen --type ", "ed25519", "ecdsa-p256")
        self.assert_completes("slipway-publish keygen --type=ed", "ed25519")
        self.assert_completes("slipway-publish log --app ")
        self.assert_completes("slipway-publish log ")


if __name__ == "__main__":
    PROGRAM, BASH, ZSH = map(os.path.abspath, sys.argv[1:])
    NAME = pathlib.Path(PROGRAM).name
    loader = unittest.TestLoader()
    suite = unittest.TestSuite(loader.loadTestsFromTestCase(case)
                               for case in (Both, Agent if NAME == "slipway" else Publisher))
    sys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())
