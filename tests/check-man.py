#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an option or verb that a program's --help shows is missing from its man page, or when it does not fit a screen.

    check-man.py PROGRAM PAGE.scd
"""

import pathlib
import sys

from help_text import options_in, shown_by, verbs_in

N_LINES_MAX, N_COLUMNS_MAX = 36, 80


def main():
    program, page = sys.argv[1:]
    name = pathlib.Path(program).name
    text = shown_by(program)
    verbs = verbs_in(text, program)
    lines = text.splitlines()
    if len(lines) > N_LINES_MAX or max(map(len, lines)) > N_COLUMNS_MAX:
        sys.exit(f"{name} --help does not fit a screen: {len(lines)} lines of up to {max(map(len, lines))} columns")
    if "VERB --help" in text:
        text += "".join(shown_by(program, *verb.split()) for verb in sorted(verbs))
    options = options_in(text)
    source = pathlib.Path(page).read_text(encoding="utf-8").replace("\\", "")
    missing = sorted(word for word in verbs | options if f"*{word}*" not in source)
    if len(options) < 2:
        sys.exit(f"{name} --help shows hardly any option: {sorted(options)}")
    if missing:
        sys.exit(f"{page} says nothing about what {name} --help shows: {', '.join(missing)}")
    print(f"{page}: has all of {', '.join(sorted(verbs | options))}")


if __name__ == "__main__":
    main()
