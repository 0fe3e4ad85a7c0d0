#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when the ids of the journal's entries and their explanations are not the same, or one of them is of no use.

    check-catalog.py AGENT-FOLDER CATALOG
"""

import pathlib
import re
import sys


def ids_in(header):
    """Ids by their names."""
    return dict(re.findall(r'^#define (JOURNAL_\w+) "([^"]*)"$', header, re.M))


def entries_in(catalog):
    """(id, headers, text) of each."""
    parts = re.split(r"^-- (.*)$", catalog, flags=re.M)[1:]
    for number, body in zip(parts[::2], parts[1::2]):
        head, _, text = body.strip("\n").partition("\n\n")
        yield number, dict(line.split(": ", 1) for line in head.splitlines()), text


def problems(folder, catalog):
    ids = ids_in((folder / "journal-id.h").read_text())
    sources = "".join(path.read_text() for path in folder.glob("*.c"))
    fields = {name for name in re.findall(r'add_(?:text|number)\(&e, "(\w+)"', (folder / "journal.c").read_text())}
    entries = list(entries_in(catalog))
    numbers = [number for number, _, _ in entries]
    if len(ids) < 10 or "SLIPWAY_APP" not in fields:
        yield f"hardly anything was found: {ids} {fields}"
    if len(set(ids.values())) < len(ids) or len(set(numbers)) < len(numbers):
        yield "an id comes twice"
    for name, number in ids.items():
        if not re.fullmatch("[0-9a-f]{32}", number):
            yield f"{name} is no id: {number}"
        if number not in numbers:
            yield f"{name} has no entry in the catalog"
        if not re.search(rf"\b{name}\b", sources):
            yield f"{name} is never written"
    for number, headers, text in entries:
        if number not in ids.values():
            yield f"the catalog explains {number}, which is no id"
        if set(headers) != {"Subject", "Defined-By", "Documentation"} or not text:
            yield f"the entry {number} lacks something: {headers} {text!r}"
        unknown = set(re.findall(r"@(\w+)@", headers.get("Subject", "") + text)) - fields
        if unknown:
            yield f"the entry {number} shows fields that are never written: {unknown}"
        if max(map(len, text.splitlines()), default=0) > 80:
            yield f"the entry {number} has a line that is too long"


def main():
    folder, catalog = map(pathlib.Path, sys.argv[1:])
    found = list(problems(folder, catalog.read_text()))
    for problem in found:
        print(problem)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
