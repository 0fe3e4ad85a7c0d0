#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an option or verb that a program's --help shows is missing from its man page.

    check-man.py PROGRAM PAGE.scd
"""

import pathlib
import re
import subprocess
import sys


def shown_by(program, *args):
    """The text of PROGRAM ARGS... --help, which must succeed and go to stdout."""
    done = subprocess.run([program, *args, "--help"], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout


def main():
    program, page = sys.argv[1:]
    name = pathlib.Path(program).name
    text = shown_by(program)
    # "  verb   what it does", "  program [OPTION...] verb ARGUMENT   what it does", "  two words   what it does"
    verbs = {v.strip() for v in re.findall(rf"^  (?:{name} (?:\[OPTION\.\.\.\] )?)?([a-z]+(?: [a-z]+)?) ", text, re.M)
             if v.strip() != name}
    if "VERB --help" in text:
        text += "".join(shown_by(program, *verb.split()) for verb in sorted(verbs))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    source = pathlib.Path(page).read_text(encoding="utf-8").replace("\\", "")
    missing = sorted(word for word in verbs | options if f"*{word}*" not in source)
    if len(options) < 2:
        sys.exit(f"{name} --help shows hardly any option: {sorted(options)}")
    if missing:
        sys.exit(f"{page} says nothing about what {name} --help shows: {', '.join(missing)}")
    print(f"{page}: has all of {', '.join(sorted(verbs | options))}")


if __name__ == "__main__":
    main()
