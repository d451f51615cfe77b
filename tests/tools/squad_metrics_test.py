#!/usr/bin/env python3
"""`minibert eval squad --predictions` against the official script's steps, on files of adversarial answers.

    tests/tools/squad_metrics_test.py [--files 40] [--seed 1]       run by ctest with few files; by hand with 500

Each file has questions and answers of its own, made of what the script's steps depend on: articles beside marks, digits and letters
of other scripts, capital sigmas at ends of words, characters whose lower case is longer, every blank of Unicode, punctuation of ASCII
and beyond, empty answers, missing and unknown ids, ids twice. Both scores must be equal to the last digit. Real answers are in, where
MINIBERT_SHARED_DATA has them.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models/text"))
import official_squad  # noqa: E402

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
BLANKS = [chr(c) for c in (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]
PIECES = [
    "a", "an", "the", "A", "AN", "The", "a1", "an_", "the-", "a\u0301", "\u0301a", "a\u00b2", "a\u0660", "the\u2019s", "an\u200d", "a\u200b",
    "Saint", "Bernadette", "1858", "1,858", "U.S.", "don't", "\u039f\u0394\u039f\u03a3", "\u03a3", "\u0391\u03a3.", "\u0391\u03a3\u0391",
    "A\u03a3\u0301", "\u0130stanbul", "\u1e9e", "\u01c5", "\ufb01", "\u0410\u041d", "\u4e00\u4e8c", "a\u4e00", "\u00aa", "\u00bd", "\u2160",
    "\u24b6", "\U00010400", "\U0001d400", "\U0001f600", "\u0e01", "\u05d0", "\u0627", "_", "a_the", "\u00e9", "e\u0301", "\u00c9COLE",
    "\u201cthe\u201d", "\u2014", "\u00a1", "\u3001", "\u00ad", "\ufeff", "\u061c", "\u0345", "\u1c80", "!", "...", "''", "`", "$3", "50%",
]  # fmt: skip


def text(draw):
    words = []
    for _ in range(draw.choice([0, 1, 1, 2, 3, 5, 9])):
        kind = draw.random()
        if kind < 0.75:
            words.append(draw.choice(PIECES))
        elif kind < 0.9:
            words.append(draw.choice(PIECES) + draw.choice(PIECES))
        else:
            words.append("".join(chr(c) for c in (draw.randrange(0x20, 0x3000) for _ in range(draw.randint(1, 4)))))
    return draw.choice(["", draw.choice(BLANKS)]) + draw.choice([" ", " ", draw.choice(BLANKS), ""]).join(words)


def changed(answer, draw):
    """An answer that is nearly this one."""
    words = answer.split(" ")
    draw.shuffle(words)
    how = draw.randrange(6)
    return [answer, answer.upper(), "the " + answer + ".", " ".join(words), " ".join(words[:-1]), answer + " " + answer][how]


def make_files(draw, real):
    questions, predictions = [], {}
    for number in range(draw.randint(1, 25)):
        id = f"q{number}" if draw.random() < 0.9 else f'"\u00e9\\{number}'
        answers = [draw.choice(real) if real and draw.random() < 0.3 else text(draw) for _ in range(draw.randint(1, 4))]
        questions.append({"id": id, "question": "?", "answers": [{"text": a, "answer_start": 0} for a in answers]})
        if draw.random() < 0.95:
            predictions[id] = changed(draw.choice(answers), draw) if draw.random() < 0.6 else text(draw)
    predictions["unknown"] = "the answer"
    data = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": questions}]}]}
    return data, predictions


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    dev = pathlib.Path(os.environ.get("MINIBERT_SHARED_DATA", "../shared/data")) / "qa/squad1.1-dev-3articles.json"
    real = []
    if dev.exists():
        articles = json.loads(dev.read_text())["data"]
        real = [a["text"] for x in articles for p in x["paragraphs"] for q in p["qas"] for a in q["answers"]]
    scores = set()
    with tempfile.TemporaryDirectory(prefix="minibert-squad-metrics-") as scratch:
        data_file, predictions_file = pathlib.Path(scratch) / "data.json", pathlib.Path(scratch) / "predictions.json"
        for number in range(options.files):
            data, predictions = make_files(draw, real)
            data_file.write_text(json.dumps(data, ensure_ascii=draw.random() < 0.5), encoding="utf-8")
            predictions_file.write_text(json.dumps(predictions, ensure_ascii=draw.random() < 0.5), encoding="utf-8")
            command = [BINARY, "eval", "squad", "--data", data_file, "--predictions", predictions_file, "--json"]
            got = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if got.returncode != 0:
                sys.exit(f"file {number} of seed {options.seed}: exit code {got.returncode}: {got.stderr}")
            if "note: 1 answers of " not in got.stderr or "the first is unknown" not in got.stderr:
                sys.exit(f"file {number} of seed {options.seed}: {got.stderr}")
            ours, wanted = json.loads(got.stdout), official_squad.evaluate(data["data"], predictions)
            if any(ours[key] != value for key, value in wanted.items()):
                sys.exit(f"file {number} of seed {options.seed}: {ours}, expected {wanted}\n{data}\n{predictions}")
            scores.add((wanted["exact_match"], wanted["f1"]))
    print(f"{options.files} files, {len(scores)} different pairs of scores, all equal; {len(real)} real answers among the texts")
    if len(scores) < options.files / 4:
        sys.exit("too few different scores: the files test nothing")


main()
