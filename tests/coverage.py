#!/usr/bin/env python3
"""How many of the lines in common/, agent/ and publisher/ ran, in whatever was run of a build with -Db_coverage=true.

    coverage.py BUILD        e.g. build/coverage

Names the lines that never ran, file by file, then the share of each folder. Exits with 1 where it is below its bound: what is
new comes with its tests. Nothing is left out: main() counts, and so does what only a broken machine could make run. What
slipway-fetch and slipway-unpack do on hosts is not counted, as they may write nowhere; in unit tests it is.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys

FOLDERS = ("common", "agent", "publisher")
BOUNDS_PERCENT = {"common": 90, "all": 85}


def read_counts(build):
    """{file: {line: how often it ran}}, where a line is in several programs as often as in all of them."""
    source = build.parent.parent
    counts = collections.defaultdict(collections.Counter)
    # not what lies in the build: there is also what sources left that are no more
    objects = [e["output"] for e in json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))]
    for folder in FOLDERS:
        notes = sorted(str(pathlib.Path(o).with_suffix(".gcno")) for o in objects if o.startswith(f"{folder}/"))
        absent = [note for note in notes if not (build / note).exists()]
        if absent or not notes:
            sys.exit(f"not compiled with -Db_coverage=true: {', '.join(absent) or build / folder}")
        told = subprocess.run(["gcov", "--json-format", "--stdout", *notes], cwd=build, capture_output=True, text=True)
        if told.returncode != 0:
            sys.exit(f"gcov ended with {told.returncode}:\n{told.stderr}")
        for file in (file for line in told.stdout.splitlines() if line for file in json.loads(line)["files"]):
            path = (build / file["file"]).resolve()
            if any(path.is_relative_to(source / f) for f in FOLDERS):
                lines = counts[str(path.relative_to(source))]
                for line in file["lines"]:
                    lines[line["line_number"]] += line["count"]
    return counts


def ranges(numbers):
    """[1, 2, 3, 7]: 1-3 7"""
    found = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    counts = read_counts(parser.parse_args().build.resolve())

    ran, all_lines = collections.Counter(), collections.Counter()
    for file, lines in sorted(counts.items()):
        missed = sorted(n for n, count in lines.items() if not count)
        for part in (file.partition("/")[0], "all"):
            all_lines[part] += len(lines)
            ran[part] += len(lines) - len(missed)
        if missed:
            print(f"{file}: {len(missed)} of {len(lines)}: {ranges(missed)}")
    good = True
    for part in (*FOLDERS, "all"):
        percent, bound = 100 * ran[part] / all_lines[part], BOUNDS_PERCENT.get(part, 0)
        good = good and percent >= bound
        print(f"{part}: {ran[part]} of {all_lines[part]} lines ran, {percent:.1f} %"
              + (f", at least {bound} % are to" if bound else ""))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
