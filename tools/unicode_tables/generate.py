#!/usr/bin/env python3
"""Writes models/text/unicode_tables.cpp: what the pinned `tokenizers` does with each code point.

Usage: python tools/unicode_tables/generate.py [--check] [--output models/text/unicode_tables.cpp]
The library is probed over all 1,112,064 code points (a few seconds), because its Unicode data mixes old versions and
WordPiece ids must equal the library's. --check compares with the committed file and writes nothing.
Easy to break: the tables belong to the version in PINNED; raise it together with the goldens of tests/goldens.
"""

import argparse
import sys
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

PINNED = "0.23.3"
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic in unicode.cpp, checked here
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def bert_normalizer(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**flags, **on}).normalize_str


clean = bert_normalizer(clean_text=True)
space_out_cjk = bert_normalizer(handle_chinese_chars=True)
strip = bert_normalizer(strip_accents=True)
lower = bert_normalizer(lowercase=True)
nfd = normalizers.NFD().normalize_str
pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str


def probe_word_characters():
    """Code points beside which an added token with single_word is not found: the library's \\w."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("+", single_word=True, normalized=False)])
    return [c for c, found in zip(CODE_POINTS, tokenizer.encode_batch([f"+{chr(c)}" for c in CODE_POINTS]))
            if found.tokens[0] != "+"]


def hangul_nfd(c):
    i = c - HANGUL.start
    parts = [0x1100 + i // 588, 0x1161 + i % 588 // 28] + ([0x11A7 + i % 28] if i % 28 else [])
    return "".join(map(chr, parts))


def probe_classes():
    """Combining class by behaviour: c moves after every class representative that is smaller than its own class."""
    low, high = "\u0334", "\u0345"  # classes 1 and 240, the smallest and the largest

    def is_starter(s):  # nothing moves across it
        return nfd(s + low) == s + low and nfd(high + s) == high + s

    representative = {}
    marks = [c for c in CODE_POINTS if nfd(chr(c)) == chr(c) and not is_starter(chr(c))]
    for c in marks:
        representative.setdefault(unicodedata.combining(chr(c)), chr(c))
    order = [(k, representative[k]) for k in sorted(representative) if k]
    result = {}
    for c in marks:
        s = chr(c)
        smaller = sum(nfd(s + r) != s + r for _, r in order)
        k, r = order[smaller]
        assert nfd(r + s) == r + s and nfd(s + r) == s + r, f"U+{c:04X}: a combining class without representative"
        result[c] = k
    return result


def probe():
    drop, space, cjk, punctuation, mark, nfd_of, lower_of = [], [], [], [], [], {}, {}
    for c in CODE_POINTS:
        s = chr(c)
        cleaned = clean(s)
        if cleaned == "":
            drop.append(c)
        elif c != 0x20 and cleaned == " ":
            space.append(c)
        else:
            assert cleaned == s
        if space_out_cjk(s) != s:
            assert space_out_cjk(s) == f" {s} "
            cjk.append(c)
        if nfd(s) != s:
            if c in HANGUL:
                assert nfd(s) == hangul_nfd(c)
            else:
                nfd_of[c] = nfd(s)
        elif strip(s) == "":
            mark.append(c)
        if lower(s) != s:
            lower_of[c] = lower(s)
        split = len(pieces(f"a{s}a"))
        if split == 3:
            punctuation.append(c)
        elif split == 2:  # what the pre-tokenizer calls white space is a space, or gone, once the text is clean
            assert cleaned in ("", " ")
    space = sorted(space + [0x20])
    classes = probe_classes()
    mark_set = set(mark)
    # What basic_tokenizer.cpp relies on:
    assert not any(c in classes for c in punctuation + space + cjk)  # a run of marks lies within one word
    assert all(ord(d) in mark_set or strip(d) == d for s in nfd_of.values() for d in s)
    assert all(clean(d) != "" and d != " " for c, s in nfd_of.items() if c not in space for d in s)
    assert max(map(len, nfd_of.values())) <= 4 and max(map(len, lower_of.values())) <= 2
    assert all(classes.get(ord(s[0])) is None or c in classes for c, s in lower_of.items())
    return dict(drop=drop, space=space, cjk=cjk, punctuation=punctuation, mark=mark, word=probe_word_characters(), classes=classes,
                decomposition=nfd_of, lower=lower_of)


def ranges(points):
    found = []
    for c in points:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def class_ranges(classes):
    found = []
    for c, k in sorted(classes.items()):
        if found and found[-1][1] == c - 1 and found[-1][2] == k:
            found[-1][1] = c
        else:
            found.append([c, c, k])
    return found


def array(element, name, items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > 99:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join(["", f"constexpr {element} k{name}Data[] = {{", *lines, line, "};",
                      f"constinit const std::span<const {element}> k{name} = k{name}Data;"])


def braces(values):
    return "{" + ", ".join(f"0x{v:X}" for v in values) + "}"


def mapping(c, text):
    return f"{{0x{c:X}, {braces(map(ord, text))}}}"


def render(tables):
    parts = [
        "// unicode_tables.cpp: how BERT's tokenizer sees each code point. Generated; not edited by hand.",
        f"// Made by tools/unicode_tables/generate.py from tokenizers {tokenizers.__version__} by probing its",
        "// BertNormalizer, NFD, BertPreTokenizer and AddedToken over all code points. What each table means:",
        "// unicode_tables.h. Test: ctest -R text_unicode (the library's answers over all code points).",
        "// clang-format off",
        '#include "models/text/unicode_tables.h"',
        "",
        "namespace minibert::unicode_tables {",
        "",
        f'constinit const std::string_view kSource = "tokenizers {tokenizers.__version__}";',
    ]
    for name in ("drop", "space", "cjk", "punctuation", "mark", "word"):
        parts.append(array("CodePointRange", name.capitalize(), map(braces, ranges(tables[name]))))
    parts.append(array("ClassRange", "CombiningClass",
                       [f"{{0x{a:X}, 0x{b:X}, {k}}}" for a, b, k in class_ranges(tables["classes"])]))
    for name in ("decomposition", "lower"):
        parts.append(array("Mapping", name.capitalize(), [mapping(c, s) for c, s in sorted(tables[name].items())]))
    parts += ["", "}  // namespace minibert::unicode_tables", ""]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--output", type=Path, default=root / "models/text/unicode_tables.cpp")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    if tokenizers.__version__ != PINNED:
        sys.exit(f"tokenizers is {tokenizers.__version__}, expected {PINNED}. pip install tokenizers=={PINNED}")
    text = render(probe())
    if args.check:
        same = args.output.read_text() == text
        sys.exit(0 if same else f"{args.output} differs from what tokenizers {PINNED} answers. Run without --check.")
    args.output.write_text(text)
    print(f"{args.output}: {len(text)} bytes")


if __name__ == "__main__":
    main()
