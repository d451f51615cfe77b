#!/usr/bin/env python3
"""Compares ids of `minibert tokenizer encode` with tokenizers and Transformers on all text under shared/data, and vocabularies of
`minibert tokenizer train` with the library's. Run by ctest as tokenizer_parity (about half a minute).

    MINIBERT_BINARY=build/cpu/bin/minibert MINIBERT_SHARED_DATA=../shared/data .venv/bin/python tools/goldens/tokenizer_parity.py

Exit code 77 means skipped: no shared data, or no Python with the peers (MINIBERT_PYTHON). The text, by file: the corpora
line by line, the questions and contexts of qa/*.json, the csv files, the vocabularies and every note.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED = "0.23.3"


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def ensure_peers():
    """Restarts under MINIBERT_PYTHON if this Python lacks the libraries."""
    try:
        import tokenizers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        python = os.environ.get("MINIBERT_PYTHON", "")
        if not os.access(python, os.X_OK) or os.environ.get("MINIBERT_PARITY_AGAIN"):
            skip("tokenizers and transformers are absent; tools/install-peers installs them (MINIBERT_PYTHON)")
        os.environ["MINIBERT_PARITY_AGAIN"] = "1"
        os.execv(python, [python, *sys.argv])


def strings_of(value):
    """Every string of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from strings_of(member)


def texts(data):
    """(name, lines) of every file below the folder."""
    for path in sorted(p for p in data.rglob("*") if p.is_file()):
        content = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
        text = content.decode()
        if path.suffix == ".json":
            text = "\n".join(line for s in strings_of(json.loads(text)) for line in s.split("\n"))
        lines = text.split("\n")
        yield str(path.relative_to(data)), lines[:-1] if lines[-1] == "" else lines


def encode_here(binary, vocab, cased, lines):
    command = [binary, "tokenizer", "encode", "--vocab", str(vocab), *(["--cased"] if cased else [])]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def compare_ids(name, lines, expected, got):
    assert len(got) == len(lines), f"{name}: {len(got)} lines of ids for {len(lines)} lines of text"
    for number, (line, ids, ours) in enumerate(zip(lines, expected, got), 1):
        if " ".join(map(str, ids)) != ours:
            sys.exit(f"{name}:{number}: ids differ\n  text     {line[:300]!r}\n  expected {ids[:60]}\n  got      {ours[:400]}")


def check_encoding(binary, data, cased):
    import transformers
    from tokenizers.implementations import BertWordPieceTokenizer

    vocab = data / "vocab" / f"bert-base-{'cased' if cased else 'uncased'}-vocab.txt"
    library = BertWordPieceTokenizer(str(vocab), lowercase=not cased)
    tokens = {token: i for i, token in enumerate(vocab.read_text().split("\n")[:-1])}
    hugging_face = transformers.BertTokenizer(vocab=tokens, do_lower_case=not cased)
    files, total = 0, 0
    for name, lines in texts(data):
        expected = [encoding.ids for encoding in library._tokenizer.encode_batch_fast(lines)]
        compare_ids(name, lines, expected, encode_here(binary, vocab, cased, lines))
        sample = lines[:: max(1, len(lines) // 50)]
        compare_ids(name, sample, hugging_face(sample)["input_ids"], encode_here(binary, vocab, cased, sample))
        files, total = files + 1, total + sum(map(len, expected))
    print(f"encode {'cased' if cased else 'uncased'}: {total} ids of {files} files are equal")


def check_training(binary, folder, name, paths, cased, vocab_size):
    """Byte-equal to the library's with its alphabet's order pinned; loads there and gives the same ids."""
    import tokenizer as goldens
    from tokenizers.implementations import BertWordPieceTokenizer

    output = Path(folder) / f"{name}.txt"
    command = [binary, "tokenizer", "train", "--vocab-size", str(vocab_size), "--output", str(output)]
    subprocess.run([*command, *(["--cased"] if cased else []), *map(str, paths)], check=True, stdout=subprocess.DEVNULL)
    lines = [line for path in paths for line in gzip.open(path, "rt", encoding="utf-8", newline="\n")]
    ours, expected = output.read_text().split("\n")[:-1], goldens.train(lines, not cased, vocab_size)
    different = [i for i, (a, b) in enumerate(zip(ours, expected)) if a != b]
    assert ours == expected, f"{name}: {len(ours)} and {len(expected)} tokens, first difference {different[:1]}"
    library = BertWordPieceTokenizer(str(output), lowercase=not cased)
    sample = [line.rstrip("\n") for line in lines[::50]]
    ids = [encoding.ids for encoding in library._tokenizer.encode_batch(sample)]
    compare_ids(name, sample, ids, encode_here(binary, output, cased, sample))
    print(f"train {name}: {len(ours)} tokens are equal, and {len(sample)} lines encoded with them")


def main():
    data = Path(os.environ.get("MINIBERT_SHARED_DATA", "../shared/data"))
    if not (data / "vocab").is_dir():
        skip(f"{data} is absent (MINIBERT_SHARED_DATA)")
    ensure_peers()
    import tokenizers

    if tokenizers.__version__ != PINNED:
        skip(f"tokenizers is {tokenizers.__version__}, the goldens belong to {PINNED}")
    binary = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
    for cased in (False, True):
        check_encoding(binary, data, cased)
    corpus = data / "corpus"
    with tempfile.TemporaryDirectory() as folder:
        check_training(binary, folder, "austen-uncased", sorted(corpus.glob("austen/*.gz")), False, 8000)
        check_training(binary, folder, "wiki-cased", sorted(corpus.glob("wiki-sample/*.gz")), True, 6000)


if __name__ == "__main__":
    main()
