#!/usr/bin/env python3
"""`minibert tokenizer train|encode` as a user sees it: output, exit codes, messages. Run by ctest as tokenizer_verb."""
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCAB = str(ROOT / "tests/goldens/tokenizer/bert-base-uncased-vocab.txt")
PROSE = "the cat sat on the mat.\nThe cats sat on the mats, and the bats sat there.\n" * 3


def run(*arguments, text=b""):
    text = text.encode() if isinstance(text, str) else text
    done = subprocess.run([BINARY, "tokenizer", *map(str, arguments)], input=text, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def expect(result, code, *parts):
    """Checks the exit code, and that standard error has these texts."""
    assert result[0] == code, result
    for part in parts:
        assert part in result[2], f"stderr lacks {part!r}: {result[2]}"
    return result[1]


def test_encode(folder):
    # Ids of bert-base-uncased by Transformers: the 1996, cat 4937, sat 2938, . 1012.
    assert expect(run("encode", "--vocab", VOCAB, text="The cat sat.\n\nThe [MASK]"), 0) == (
        "101 1996 4937 2938 1012 102\n101 102\n101 1996 103 102\n")
    assert expect(run("encode", "--vocab", VOCAB, "--no-special-tokens", text="the cat\r\n"), 0) == "1996 4937\n"
    line = expect(run("encode", "--vocab", VOCAB, "--json", text="cat"), 0)
    assert json.loads(line) == {"text": "cat", "ids": [101, 4937, 102], "tokens": ["[CLS]", "cat", "[SEP]"]}
    # What Python's json writes of the same text: escapes of controls, quotes and backslashes alone.
    odd = "cat \x01\x08\x0c\x1b\x7f\x85 \"\\/ \u2028\u00e9\U0001f600 [MASK]"
    line = expect(run("encode", "--vocab", VOCAB, "--json", text=odd), 0)
    assert line == json.dumps({"text": odd, **{k: json.loads(line)[k] for k in ("ids", "tokens")}}, ensure_ascii=False,
                              separators=(",", ":")) + "\n", line
    file = folder / "text.gz"
    file.write_bytes(gzip.compress(b"the cat\n"))
    assert expect(run("encode", "--vocab", VOCAB, file), 0) == "101 1996 4937 102\n"
    expect(run("encode", "--vocab", VOCAB, text=b"good\nb\xff\xfead\n"), 0, "2 bytes", "line 2", "U+FFFD")
    # A zero byte is cleaned away, as by the peer: the 1996, cat 4937.
    assert expect(run("encode", "--vocab", VOCAB, text=b"the c\0at\n\0\nthe cat\n"), 0, "2 bytes", "line 1") == "101 1996 4937 102\n101 102\n101 1996 4937 102\n"


def test_many_lines_stay_in_order(folder):
    """More than one batch of text, shared by threads: a line is its number, whose digits are tokens of one piece or more."""
    numbers = folder / "numbers.txt"
    numbers.write_text("".join(f"{n}\n" for n in range(150_000)))
    tokens = [line for line in open(VOCAB, encoding="utf-8").read().split("\n")]
    lines = expect(run("encode", "--vocab", VOCAB, "--no-special-tokens", numbers), 0).split("\n")
    assert lines.pop() == "" and len(lines) == 150_000, len(lines)
    for n, line in enumerate(lines):
        assert "".join(tokens[int(i)].removeprefix("##") for i in line.split(" ")) == str(n), (n, line)
    blank = expect(run("encode", "--vocab", VOCAB, text="\n" * 200_000 + "cat\n"), 0)
    assert blank == "101 102\n" * 200_000 + "101 4937 102\n"


def test_json_of_a_long_line_takes_little_more_memory_than_its_ids(folder):
    long = folder / "long.txt"
    long.write_bytes(b"the quick brown fox jumps over the lazy dog " * 200_000 + b"\n")
    peaks = []
    for flags in ([], ["--json"]):
        encoding = subprocess.Popen([BINARY, "tokenizer", "encode", "--vocab", VOCAB, *flags, long], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(encoding.pid, 0)
        encoding.returncode = os.waitstatus_to_exitcode(status)
        assert encoding.returncode == 0, status
        peaks.append(used.ru_maxrss)
    assert peaks[1] < 2 * peaks[0], f"{peaks} KiB without and with --json"  # a tree of the tokens: 4.4 times


def test_casing(folder):
    cased = ROOT / "tests/goldens/tokenizer/austen-cased-vocab.txt"
    said = run("encode", "--vocab", cased, text="Anne")
    expect(said, 0, "has tokens with capital letters", "add --cased")
    right = run("encode", "--vocab", cased, "--cased", text="Anne")
    assert expect(right, 0) != said[1] and right[2] == "", right
    tokens = cased.read_text().splitlines()
    assert "Anne" in tokens and right[1] == f"{tokens.index('[CLS]')} {tokens.index('Anne')} {tokens.index('[SEP]')}\n", right
    assert run("encode", "--vocab", VOCAB, text="Anne")[2] == ""
    model = folder / "cased-model"
    model.mkdir()
    (model / "vocab.txt").write_text(cased.read_text())
    (model / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    found = run("encode", "--vocab", model / "vocab.txt", text="Anne")
    assert expect(found, 0, "tokenizer_config.json says: cased") == right[1], found
    (model / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    expect(run("encode", "--vocab", model / "vocab.txt", "--cased", text="Anne"), 2, "says uncased", "Leave out --cased")


def test_encode_errors(folder):
    empty = folder / "empty.txt"
    empty.write_text("")
    no_mask = folder / "no-mask.txt"
    no_mask.write_text("[UNK]\n[CLS]\n[SEP]\n")
    expect(run("encode", "--vocab", folder / "none.txt", text="a"), 3, "none.txt")
    expect(run("encode", "--vocab", no_mask, text="a"), 3, "no-mask.txt", "[MASK]")
    expect(run("encode", "--vocab", VOCAB, folder / "none.txt"), 3, "none.txt")
    expect(run("encode", "--vocab", VOCAB, folder), 3, str(folder))
    expect(run("encode", "--vocab", VOCAB, empty), 3, "empty")
    expect(run("encode", text="a"), 2, "--vocab")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BINARY, "tokenizer", "encode", "--vocab", VOCAB], input=b"a\n", stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 3 and b"can't be written" in done.stderr, done


def test_train(folder):
    prose, output = folder / "prose.txt", folder / "vocab.txt"
    prose.write_text(PROSE)
    base = ["train", "--vocab-size", 60, "--output", output]
    expect(run(*base, "--dry-run", prose), 0)
    assert not output.exists(), "a dry run wrote the vocabulary"
    expect(run(*base, prose), 0)
    tokens = output.read_text().split("\n")[:-1]
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and "the" in tokens and "##at" in tokens, tokens
    first = output.read_bytes()
    expect(run(*base, prose), 2, "vocab.txt", "exists", "--force")
    assert output.read_bytes() == first
    facts = json.loads(expect(run(*base, "--force", "--json", text=PROSE), 0))  # the same text from standard input
    assert output.read_bytes() == first and facts["vocab_size"] == len(tokens), facts
    assert sorted(p.name for p in folder.iterdir() if "vocab" in p.name) == ["vocab.txt"], "a temporary file was left"
    expect(run("encode", "--vocab", output, text="the cat"), 0)
    latin = folder / os.fsdecode(b"caf\xe9.txt")  # not UTF-8, which JSON requires
    assert json.loads(expect(run("train", "--vocab-size", 60, "--json", "--output", latin, prose), 0))["vocab_size"] == len(tokens)
    assert latin.read_bytes() == first
    cased = folder / "cased.txt"
    expect(run("train", "--cased", "--vocab-size", 60, "--output", cased, prose), 0)
    assert "T" in cased.read_text().split("\n") and "T" not in tokens


def test_train_errors(folder):
    prose = folder / "prose.txt"
    prose.write_text(PROSE)
    output = folder / "new.txt"
    expect(run("train", "--vocab-size", 20, "--output", output, prose), 2, "vocabulary size is 20", "at least")
    expect(run("train", "--vocab-size", 100, "--output", output, folder / "none.txt"), 3, "none.txt")
    expect(run("train", "--vocab-size", 100, "--output", folder, prose), 2, "is a folder")
    expect(run("train", "--vocab-size", 100, "--output", folder / "no" / "v.txt", prose), 2, "folder", "mkdir")
    expect(run("train", "--vocab-size", "many", "--output", output, prose), 2, "--vocab-size")
    expect(run("train", "--output", output, prose), 2, "--vocab-size")
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    expect(run("train", "--vocab-size", 100, "--force", "--output", pipe, prose), 2, "pipe")
    assert pipe.is_fifo()
    blank = folder / "blank.txt"
    blank.write_text(" \n\n")
    expect(run("train", "--vocab-size", 100, "--output", output, blank), 3, "no words")
    expect(run("train", "--vocab-size", 3000, "--output", output, prose), 0, "instead of 3000")
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("new")) == ["new.txt"]


def main():
    for test in (test_encode, test_many_lines_stay_in_order, test_json_of_a_long_line_takes_little_more_memory_than_its_ids, test_casing,
                 test_encode_errors, test_train, test_train_errors):
        with tempfile.TemporaryDirectory() as folder:
            test(pathlib.Path(folder))
        print(f"{test.__name__}: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
