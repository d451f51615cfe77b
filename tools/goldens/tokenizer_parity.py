#!/usr/bin/env python3
"""Compares ids of `minibert tokenizer encode` with those of `tokenizers` 0.23.3, and vocabularies of `minibert tokenizer train`.

    tools/goldens/tokenizer_parity.py            a sample of each part, as ctest runs it (tokenizer_parity): 20 seconds
    tools/goldens/tokenizer_parity.py --whole    everything: a quarter of an hour of two cores

Six settings: a cased and an uncased vocabulary, and strip_accents left to follow the case, true and false (four that differ). Each reads
all text under shared/data (the corpora line by line, the questions and contexts of qa/*.json, the csv files, the vocabularies, every
note); every code point alone, doubled between letters, and between marks of higher and lower class; and 1,000,000 random strings over
all 17 planes, half of their characters drawn from those that rules meet in. A line of text holds neither U+0000 nor U+000A:
models_text_basic_tokenizer_test has them. Transformers' BertTokenizer reads a sample of the text. Counts the lines that differ and prints the first ones; exit code 1.

Environment: MINIBERT_BINARY, MINIBERT_SHARED_DATA, MINIBERT_PYTHON, by default build/cpu/bin/minibert, ../shared/data and
.venv/bin/python. Exit code 77 means skipped: no shared data, or no Python with the peers.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED = "0.23.3"
ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MINIBERT_BINARY", str(ROOT / "build/cpu/bin/minibert"))
SAMPLE = 100  # the short form reads every 100th line, code point and random string
RANDOM_STRINGS = 1_000_000
BATCH = 100_000  # lines that are compared at once
SHOWN = 5  # differences printed a part
SETTINGS = [(cased, strip) for cased in (False, True) for strip in (None, True, False)]
# Marks of several classes, letters whose lower case or NFD is longer or shorter, Hangul, ideographs, blanks, what cleaning drops.
RULES = ["\u0300", "\u0301", "\u0323", "\u0334", "\u0345", "\u302e", "\U0001d165", "\U0001d16d", "\u093c", "\u0941", "\u0903", "\u0f71",
         *"abzABZ09\u00e9\u00c9\u00df\u0130\u0131\u00f1\u03a3\u03c2\u0414\u044f", "\u1e9e", "\uac00", "\u4e2d", "\uf900", "\U0002f800", "\U0001f600",
         "\u0915", "the", "ing", "Anne", " ", ".", "-", "[MASK]", "[", "]", "\x01", "\u200b", "\u00a0", "\ufffd", "#", "\u3000", "\t", "\r", "\x0b"]


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def ensure_peers():
    """Restarts under MINIBERT_PYTHON if this Python lacks the libraries."""
    try:
        import tokenizers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        python = os.environ.get("MINIBERT_PYTHON", str(ROOT / ".venv/bin/python"))
        if not os.access(python, os.X_OK) or os.environ.get("MINIBERT_PARITY_AGAIN"):
            skip("tokenizers and transformers are absent; tools/install-peers installs them (MINIBERT_PYTHON)")
        os.environ["MINIBERT_PARITY_AGAIN"] = "1"
        os.execv(python, [python, *sys.argv])


# ---- what is encoded ------------------------------------------------------------------------------------------------------------


def strings_of(value):
    """Every string of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from strings_of(member)


def file_lines(data, step):
    """(name, line) of every file below the folder."""
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        content = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
        text = content.decode()
        if path.suffix == ".json":
            text = "\n".join(line for s in strings_of(json.loads(text)) for line in s.split("\n"))
        lines = text.split("\n")
        for line in (lines[:-1] if lines[-1] == "" else lines)[::step]:
            yield str(path.relative_to(data)), line


def is_text(c):
    """Whether a line of a text file can hold it."""
    return c not in (0, 0x0A) and not 0xD800 <= c < 0xE000


def code_point_lines(step):
    for c in range(0, 0x110000, step):
        if is_text(c):
            for line in (chr(c), f"a{chr(c)}{chr(c)}b", f"e\u0301{chr(c)}\u0323"):
                yield f"U+{c:04X}", line


def random_lines(step):
    draw = random.Random(13)

    def character():
        if draw.random() < 0.5:
            return draw.choice(RULES)
        c = draw.randrange(17) << 16 | draw.randrange(0x10000)
        return chr(c) if is_text(c) else " "

    for number in range(RANDOM_STRINGS // step):
        yield f"random string {number}", "".join(character() for _ in range(draw.randrange(1, 16)))


def batches(lines):
    batch = []
    for entry in lines:
        batch.append(entry)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


# ---- who encodes ----------------------------------------------------------------------------------------------------------------


def encode_here(vocab, lines):
    """A string of ids for each line; `vocab` is a folder, or a file that tokenizer_config.json is beside."""
    done = subprocess.run([BINARY, "tokenizer", "encode", "--vocab", str(vocab)], input="\n".join(lines).encode() + b"\n",
                          capture_output=True, check=True)
    got = done.stdout.decode().split("\n")[:-1]
    assert len(got) == len(lines), f"{len(got)} lines of ids for {len(lines)} lines of text"
    return got


class Comparison:
    """Of one part of one setting: how many lines and ids were equal, and the first lines that were not."""

    def __init__(self, name):
        self.name, self.lines, self.ids, self.different = name, 0, 0, []

    def add(self, batch, expected, got):
        for (where, line), ids, ours in zip(batch, expected, got, strict=True):
            self.lines, self.ids = self.lines + 1, self.ids + len(ids)
            if " ".join(map(str, ids)) != ours:
                self.different.append(f"  {where}: {line[:300]!r}\n    expected {ids[:60]}\n    got      {ours[:400]}")

    def report(self):
        print(f"{self.name}: {self.lines} lines, {self.ids} ids: {len(self.different)} differences", flush=True)
        if self.different:
            print("\n".join(self.different[:SHOWN]))
        return len(self.different)


def check_encoding(data, folder, cased, strip_accents, step):
    """Differences of one setting."""
    import transformers
    from tokenizers.implementations import BertWordPieceTokenizer

    vocab = data / "vocab" / f"bert-base-{'cased' if cased else 'uncased'}-vocab.txt"
    model = Path(folder) / f"{vocab.stem}-{strip_accents}"
    model.mkdir()
    (model / "vocab.txt").write_bytes(vocab.read_bytes())
    (model / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not cased, "strip_accents": strip_accents}))
    library = BertWordPieceTokenizer(str(vocab), lowercase=not cased, strip_accents=strip_accents)._tokenizer
    setting = f"{'cased' if cased else 'uncased'}, strip_accents {strip_accents}"
    parts = {"shared text": file_lines(data, step), "code points": code_point_lines(step), "random strings": random_lines(step)}
    differences = 0
    for part, lines in parts.items():
        comparison = Comparison(f"encode, {setting}, {part}")
        for batch in batches(lines):
            texts = [line for _, line in batch]
            comparison.add(batch, (e.ids for e in library.encode_batch_fast(texts)), encode_here(model, texts))
        differences += comparison.report()
    tokens = {token: i for i, token in enumerate(vocab.read_text().split("\n")[:-1])}
    hugging_face = transformers.BertTokenizer(vocab=tokens, do_lower_case=not cased, strip_accents=strip_accents)
    sample = list(file_lines(data, 500))
    comparison = Comparison(f"encode, {setting}, Transformers")
    texts = [line for _, line in sample]
    comparison.add(sample, hugging_face(texts)["input_ids"], encode_here(model, texts))
    return differences + comparison.report()


def check_training(folder, name, paths, cased, vocab_size):
    """Byte-equal to the library's with its alphabet's order pinned; loads there and gives the same ids."""
    import tokenizer as goldens
    from tokenizers.implementations import BertWordPieceTokenizer

    model = Path(folder) / name
    model.mkdir()
    output = model / "vocab.txt"
    command = [BINARY, "tokenizer", "train", "--vocab-size", str(vocab_size), "--output", str(output)]
    subprocess.run([*command, *(["--cased"] if cased else []), *map(str, paths)], check=True, stdout=subprocess.DEVNULL)
    (model / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not cased}))
    lines = [line for path in paths for line in gzip.open(path, "rt", encoding="utf-8", newline="\n")]
    ours, expected = output.read_text().split("\n")[:-1], goldens.train(lines, not cased, vocab_size)
    different = [i for i, (a, b) in enumerate(zip(ours, expected)) if a != b]
    assert ours == expected, f"{name}: {len(ours)} and {len(expected)} tokens, first difference {different[:1]}"
    library = BertWordPieceTokenizer(str(output), lowercase=not cased)
    sample = [(name, line.rstrip("\n")) for line in lines[::50]]
    texts = [line for _, line in sample]
    comparison = Comparison(f"train {name}, {len(ours)} tokens are equal; encode with them")
    comparison.add(sample, (e.ids for e in library._tokenizer.encode_batch(texts)), encode_here(model, texts))
    return comparison.report()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="every line, code point and random string")
    arguments = parser.parse_args()
    data = Path(os.environ.get("MINIBERT_SHARED_DATA", ROOT.parent / "shared/data"))
    if not (data / "vocab").is_dir():
        skip(f"{data} is absent (MINIBERT_SHARED_DATA)")
    ensure_peers()
    import tokenizers

    if tokenizers.__version__ != PINNED:
        skip(f"tokenizers is {tokenizers.__version__}, the goldens belong to {PINNED}")
    corpus = data / "corpus"
    with tempfile.TemporaryDirectory() as folder:
        differences = sum(check_encoding(data, folder, *setting, 1 if arguments.whole else SAMPLE) for setting in SETTINGS)
        differences += check_training(folder, "austen-uncased", sorted(corpus.glob("austen/*.gz")), False, 8000)
        differences += check_training(folder, "wiki-cased", sorted(corpus.glob("wiki-sample/*.gz")), True, 6000)
    print(f"{differences} differences from tokenizers {PINNED}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
