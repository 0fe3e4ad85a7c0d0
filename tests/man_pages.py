# SPDX-License-Identifier: Apache-2.0
"""Man pages in scdoc, for the test that holds them against the code."""

import pathlib
import re

FENCE = "```"


class Page:
    """A page's source: `file` ("slipway.json.5"), `name`, `section`, `text` without backslashes."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.file = self.path.name.removesuffix(".scd")
        self.name, self.section = self.file.rsplit(".", 1)
        self.source = self.path.read_text(encoding="utf-8")
        self.text = self.source.replace("\\", "")

    def __str__(self):
        return self.path.name

    def blocks(self):
        """The literal blocks, as they are shown."""
        return [b.replace("\\\\", "\\") for b in re.findall(rf"^{FENCE}\n(.*?)^{FENCE}$", self.source, re.M | re.S)]

    def prose(self):
        return re.sub(rf"^{FENCE}\n.*?^{FENCE}$", "", self.text, flags=re.M | re.S)

    def headings(self):
        return set(re.findall(r"^#+ (.*)$", self.prose(), re.M))

    def part(self, heading):
        """The text below a heading, up to the next one of its level or above."""
        found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", self.prose(), re.M | re.S)
        return found.group(2) if found else ""

    def references(self):
        """All that it refers to, as (name, section): *slipwayd*(8)."""
        return set(re.findall(r"\*([\w.-]+)\*\((\d)\)", self.prose()))

    def part_references(self):
        """Parts of pages that it refers to, as (name, section, heading): *EC2* in *page*(5); *page*(5), *EC2*."""
        text = " ".join(self.prose().split())
        page, heading = r"\*([\w.-]+)\*\((\d)\)", r"\*?([A-Z][A-Z0-9.]+(?: [A-Z.]+)*)\b\*?"
        after = re.findall(rf"{page}, {heading}", text)
        before = [(name, section, part) for part, name, section in re.findall(rf"\*([A-Z][A-Z0-9. ]+)\* in {page}", text)]
        return {(name, section, part.strip()) for name, section, part in after + before}

    def bold_words(self):
        """Each word that stands in bold, by itself or in a path of members: *health.http*, *"any"*."""
        spans = re.findall(r"(?<![\w*])\*([^*\n]+)\*", self.prose())
        return {word for span in spans for word in re.findall(r"[\w-]+", span)}

    def terms(self):
        """The members that it defines: lines of bold words alone, "*by*, *reason* (needed)", and "*size* (needed): ..."."""
        lines = re.findall(r'^\t*((?:\*[a-z"][A-Za-z_"]*(?:\.[a-z_]+)*\*(?:, )?)+)(?: \(needed[^)]*\))?(?:$|: )', self.prose(), re.M)
        return {word for line in lines for word in re.findall(r"\w+", line)}

    def tables(self, heading):
        """The rows of the tables below a heading, each a list of cells."""
        rows = []
        for line in self.part(heading).splitlines():
            if re.match(r"[\[|\]]([\[\-\]<=> ]) ", line):
                rows.append([line[3:].strip()])
            elif rows and re.match(r":[\[\-\]<=> ] ", line):
                rows[-1].append(line[3:].strip())
        return rows
