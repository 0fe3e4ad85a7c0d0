# SPDX-License-Identifier: Apache-2.0
"""What a program's --help shows, for the tests that compare something with it."""

import pathlib
import re
import subprocess


def shown_by(program, *args):
    """The text of PROGRAM ARGS... --help, which must succeed and go to stdout."""
    done = subprocess.run([program, *args, "--help"], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout


def verbs_in(text, program):
    """"  verb   what it does", "  program [OPTION...] verb ARGUMENT   what it does", "  two words   what it does"."""
    name = pathlib.Path(program).name
    verbs = re.findall(rf"^  (?:{name} (?:\[OPTION\.\.\.\] )?)?([a-z]+(?: [a-z]+)?) ", text, re.M)
    return {verb.strip() for verb in verbs} - {name}


def options_in(text):
    """All that it names, anywhere."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def option_lines(text):
    """What it explains, with the explanation: "  -o, --output FILE   file to write"."""
    return dict(re.findall(r"^  (?:-\w, |    )?(--[a-z][a-z-]*)(?: [A-Z]+)? +(.*)$", text, re.M))
