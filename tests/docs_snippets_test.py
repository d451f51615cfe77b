#!/usr/bin/env python3
"""The code in docs/ is the code of the tests: each ```cpp block of docs/NAME.md is a marked part of tests/docs/NAME_test.cpp.

A part begins with a line `// [name]` and ends with `// [/name]`; the block's fence is ```cpp name. Every fenced block of
a page must have a part and every part a block, with equal text except indentation.
    tests/docs_snippets_test.py [ROOT]
"""
import pathlib
import re
import sys
import textwrap

BLOCK = re.compile(r"^```cpp ?(\S*)\n(.*?)^```", re.M | re.S)
PART = re.compile(r"^[ ]*// \[([\w-]+)\]\n(.*?)^[ ]*// \[/\1\]$", re.M | re.S)


def faults_of(name, page, source):
    """Differences between the texts of a page and of its test."""
    blocks = {part: textwrap.dedent(code) for part, code in BLOCK.findall(page)}
    parts = {part: textwrap.dedent(code) for part, code in PART.findall(source)}
    for part in sorted(blocks.keys() | parts.keys()):
        if blocks.get(part) != parts.get(part):
            yield f"docs/{name}.md, block '{part}': is not the code of tests/docs/{name}_test.cpp; copy it from there"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    faults, pages = [], 0
    for test in sorted((root / "tests" / "docs").glob("*_test.cpp")):
        name = test.stem[: -len("_test")]
        page, source = (root / "docs" / f"{name}.md").read_text(encoding="utf-8"), test.read_text(encoding="utf-8")
        faults += faults_of(name, page, source)
        block = BLOCK.search(page)[0]  # each page must have one; and a changed, lost or new one must be seen
        for planted in (page.replace(block, block.replace(";", ",").replace("<", "(")), page.replace(block, ""), page + "```cpp new\n```\n"):
            assert list(faults_of(name, planted, source)), f"a fault planted in docs/{name}.md was not seen"
        pages += 1
    print("\n".join(faults) if faults else f"docs: the code of {pages} pages is that of their tests")
    return 1 if faults or pages == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
