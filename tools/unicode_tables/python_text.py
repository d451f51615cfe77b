#!/usr/bin/env python3
"""Writes models/text/python_text_tables.cpp: what Python's str and re know of each code point, which the metric of SQuAD relies on.

Usage: python3 tools/unicode_tables/python_text.py [--check] [--output models/text/python_text_tables.cpp]

The classes are found by probing Python itself: \\w of re; cased and case-ignorable from how str.lower treats a capital sigma beside
the character; lower case of each. --check compares the file with what this Python says, and exits 1 where they differ.
"""
import argparse
import pathlib
import re
import sys
import unicodedata

EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(code_points):
    found = []
    for c in code_points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def ends_in_final_sigma(text):
    return text.lower().endswith("\u03c2")


def text_of_tables():
    word = re.compile(r"\w")
    classes = {
        "kWord": [c for c in EVERY if word.match(chr(c))],
        "kCased": [c for c in EVERY if ends_in_final_sigma("1" + chr(c) + "\u03a3")],
        "kCaseIgnorable": [
            c for c in EVERY if ends_in_final_sigma("A" + chr(c) + "\u03a3") and not ends_in_final_sigma("1" + chr(c) + "\u03a3")
        ],
    }
    lower = [(c, [ord(x) for x in chr(c).lower()]) for c in EVERY if chr(c).lower() != chr(c)]
    lines = [
        "// python_text_tables.cpp: see python_text_tables.h.",
        f"// Made by tools/unicode_tables/python_text.py from Python's Unicode {unicodedata.unidata_version}, by probing its",
        "// str and re. Do not edit.",
        "// clang-format off",
        '#include "models/text/python_text_tables.h"',
        "",
        "namespace minibert::python_text_tables {",
        "namespace {",
    ]
    for name, code_points in classes.items():
        lines.append(f"constexpr unicode_tables::CodePointRange {name}Data[] = {{")
        cells = [f"{{0x{a:X}, 0x{b:X}}}," for a, b in ranges(code_points)]
        lines += ["    " + " ".join(cells[i : i + 5]) for i in range(0, len(cells), 5)] + ["};"]
    lines.append("constexpr unicode_tables::Mapping kLowerData[] = {")
    cells = [f"{{0x{c:X}, {{{', '.join(f'0x{x:X}' for x in to)}}}}}," for c, to in lower]
    lines += ["    " + " ".join(cells[i : i + 4]) for i in range(0, len(cells), 4)] + ["};", "}  // namespace", ""]
    for name in classes:
        lines.append(f"const std::span<const unicode_tables::CodePointRange> {name} = {name}Data;")
    lines += [
        "const std::span<const unicode_tables::Mapping> kLower = kLowerData;",
        "",
        "}  // namespace minibert::python_text_tables",
        "// clang-format on",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("models/text/python_text_tables.cpp"))
    options = parser.parse_args()
    text = text_of_tables()
    if not options.check:
        options.output.write_text(text)
    elif options.output.read_text() != text:
        sys.exit(f"{options.output}: differs from Python's Unicode {unicodedata.unidata_version}. Run this script without --check.")


main()
