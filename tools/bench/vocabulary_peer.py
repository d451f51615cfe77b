"""The `tokenizers` side of tools/bench/compare_vocabulary.

    .venv/bin/python tools/bench/vocabulary_peer.py train FILES... --size 30000 --output vocab.txt
    .venv/bin/python tools/bench/vocabulary_peer.py measure vocab.txt FILES...

train: {"seconds": of train() alone, "peak": largest resident memory, "before": resident before training, both in bytes}, with one thread a
core, as `tokenizers` chooses. measure: how texts are cut with a vocabulary: {"tokens", "unknown", "words"}.
"""

import argparse
import json
import pathlib
import resource
import time

from tokenizers import BertWordPieceTokenizer


def train(options):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    start = time.perf_counter()
    tokenizer.train(options.files, vocab_size=options.size, min_frequency=2, limit_alphabet=1000, show_progress=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    pathlib.Path(options.output).write_text("".join(token + "\n" for token, _ in tokens), encoding="utf-8")
    return dict(seconds=seconds, peak=peak, before=before)


def measure(options):
    tokenizer = BertWordPieceTokenizer(options.vocab, lowercase=True)
    unknown = tokenizer.token_to_id("[UNK]")
    total = dict(tokens=0, unknown=0, words=0)
    for path in options.files:
        for encoded in tokenizer.encode_batch(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), add_special_tokens=False):
            total["tokens"] += len(encoded.ids)
            total["unknown"] += encoded.ids.count(unknown)
            total["words"] += len(set(encoded.word_ids))
    return total


def main():
    parser = argparse.ArgumentParser()
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("train")
    part.add_argument("files", nargs="+")
    part.add_argument("--size", type=int, required=True)
    part.add_argument("--output", required=True)
    part.set_defaults(do=train)
    part = parts.add_parser("measure")
    part.add_argument("vocab")
    part.add_argument("files", nargs="+")
    part.set_defaults(do=measure)
    options = parser.parse_args()
    print(json.dumps(options.do(options)))


if __name__ == "__main__":
    main()
