#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a program was built without something of what makes an exploit harder.

    check-hardening.py [--start FILE] [--flag FLAG]... [--fortify LEVEL COMPILE-COMMANDS] PROGRAM...

Of every program: it is position-independent, all its relocations are done and read-only before main(), nothing in memory can be
written and executed, its stack is protected, libc's checked functions are called, and it looks for libraries only where the
system has them. --start is the C runtime's Scrt1.o: returns (and branches, on aarch64) are guarded as far as this file lets a
program be.
--flag: what the compiler was to be called with, for every file of a program that has debug information (the others show no
trace of it). --fortify: the level with which all files of agent/, common/ and publisher/ are compiled.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

# not IBT: Linux has it for itself alone, so it would only cost space
GUARDS = {"SHSTK", "BTI", "PAC"}


def readelf(*args):
    environment = {**os.environ, "LC_ALL": "C"}  # or it speaks the user's language
    return subprocess.run(["readelf", "--wide", *args], check=True, capture_output=True, text=True, env=environment).stdout


def guards(path):
    """SHSTK, or BTI and PAC: what a linker gives to a program only if every part of it has it."""
    features = re.search(r"feature: (.*)", readelf("--notes", path))
    return set(re.split(r",\s*", features[1].strip())) & GUARDS if features else set()


def producers(path):
    """What each compiled file tells of its compiler."""
    return re.findall(r"DW_AT_producer\s*:\s*(?:\(.*?\): )?(.*)", readelf("--debug-dump=info", "--dwarf-depth=1", path))


def problems(program, start_guards, flags):
    header, dynamic = readelf("--file-header", program), readelf("--dynamic", program)
    segments = re.findall(r"^ +(\S+) +(?:0x\w+ +){5}([RWE ]{3})", readelf("--program-headers", program), re.M)
    access = dict(segments)
    symbols = set(re.findall(r" UND (\w+)", readelf("--dyn-syms", program)))
    flags_1 = re.search(r"\(FLAGS_1\) +Flags: (.*)", dynamic)
    flags_1 = set(flags_1[1].split()) if flags_1 else set()
    if not re.search(r"Type: +DYN ", header) or "PIE" not in flags_1:
        yield "is not position-independent"
    if "GNU_RELRO" not in access or "NOW" not in flags_1:
        yield "leaves relocations writable (-z relro -z now)"
    if "TEXTREL" in dynamic:
        yield "has relocations in its code"
    if "E" in access.get("GNU_STACK", "E"):
        yield "has an executable stack"
    if any("W" in a and "E" in a for _, a in segments):
        yield "has memory that can be written and executed"
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        yield "says where to look for libraries"
    if "__stack_chk_fail" not in symbols:
        yield "does not protect its stack"
    if not any(re.fullmatch(r"__\w+_chk", s) and s != "__fdelt_chk" for s in symbols):
        yield "calls none of libc's checked functions (_FORTIFY_SOURCE)"
    if not start_guards <= guards(program):
        yield f"has no {', '.join(sorted(start_guards - guards(program)))}"
    told = producers(program) if flags else []
    if flags and not told:
        yield "has no debug information that would tell of flags"
    for flag in flags:
        n_without = sum(flag not in t.split() for t in told)
        if n_without:
            yield f"has {n_without} of {len(told)} files without {flag}"


def fortify_problems(level, commands):
    """The last word on the command line is what holds."""
    n = 0
    for entry in json.loads(commands.read_text(encoding="utf-8")):
        if not re.match(r"(agent|common|publisher)/", entry["output"]):
            continue
        n += 1
        said = re.findall(r"-[DU]_FORTIFY_SOURCE\S*", entry["command"])
        if said[-1:] != [f"-D_FORTIFY_SOURCE={level}"]:
            yield f"{entry['file']} is compiled with {said}, not with level {level}"
    if n < 100:
        yield f"{commands}: only {n} files of Slipway's"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=pathlib.Path)
    parser.add_argument("--flag", action="append", default=[])
    parser.add_argument("--fortify", nargs=2, metavar=("LEVEL", "COMPILE-COMMANDS"))
    parser.add_argument("programs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()

    start_guards = guards(arguments.start) if arguments.start else set()
    found = [f"{p.name} {problem}" for p in arguments.programs for problem in problems(p, start_guards, arguments.flag)]
    if arguments.fortify:
        found += fortify_problems(arguments.fortify[0], pathlib.Path(arguments.fortify[1]))
    for problem in found:
        print(problem)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
