#!/usr/bin/env python3
"""Recreates the examples of a folder of shards from the recorded documents and random draws, and compares.

    minibert data build ... --record-draws draws.jsonl --output SHARDS FILES
    tools/goldens/examples_reference.py draws.jsonl SHARDS

An independent version of BERT's create_pretraining_data.py (google-research/bert @ eedf571) that reads the recording instead
of calling Python's random module, and an independent reader of the shard format (models/text/shard.h). Every example must be
equal: ids, segments, next-sentence label, masked positions and labels. Prints a histogram of lengths, the 80/10/10 shares and
the next-sentence balance; exits 1 at the first difference. Needs Python 3.9 and nothing else. Test: ctest -R examples.
"""
import argparse
import collections
import json
import pathlib
import struct
import sys
import zlib


class Replay:
    """The part of random.Random that the script uses, answered from recorded draws."""

    def __init__(self, draws, name):
        self.draws, self.name, self.used = draws, name, 0

    def take(self, kind):
        if self.used == len(self.draws):
            raise SystemExit(f"{self.name}: draw {self.used} is wanted, but only {len(self.draws)} were recorded")
        value = self.draws[self.used]
        self.used += 1
        if type(value) is not kind:
            raise SystemExit(f"{self.name}: draw {self.used - 1} is {value!r}, expected a {kind.__name__}")
        return value

    def random(self):
        value = self.take(float)
        if not 0 <= value < 1:
            raise SystemExit(f"{self.name}: random() is {value}")
        return value

    def randint(self, low, high):
        value = self.take(int)
        if not low <= value <= high:
            raise SystemExit(f"{self.name}: randint({low}, {high}) is {value}")
        return value

    def shuffle(self, x):
        for i in reversed(range(1, len(x))):
            j = self.randint(0, i)
            x[i], x[j] = x[j], x[i]

    def finish(self):
        if self.used != len(self.draws):
            raise SystemExit(f"{self.name}: {len(self.draws)} draws were recorded, only {self.used} are wanted")


# ---- The algorithm ---------------------------------------------------------------------------------------------------

def truncate_pair(tokens_a, tokens_b, budget, rng):
    while len(tokens_a) + len(tokens_b) > budget:
        longer = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
        if rng.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


def examples_of_document(documents, index, settings, special, rng):
    """Yields (ids, first_segment, label): label 0 = next, 1 = random, -1 = no pair."""
    nsp, document = settings["nsp"], documents[index]
    budget = settings["sequence_length"] - (3 if nsp else 2)
    target = budget
    if rng.random() < settings["short_sequence_prob"]:
        target = rng.randint(2, budget)
    chunk, i = [], 0
    while i < len(document):
        chunk.append(document[i])
        if i == len(document) - 1 or sum(map(len, chunk)) >= target:
            a_end = len(chunk)
            if nsp:
                a_end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
            tokens_a = [token for sentence in chunk[:a_end] for token in sentence]
            tokens_b, label = [], -1
            if nsp and (len(chunk) == 1 or rng.random() < 0.5):
                label = 1
                wanted = target - len(tokens_a)
                for _ in range(10):
                    other = rng.randint(0, len(documents) - 1)
                    if other != index:
                        break
                for sentence in documents[other][rng.randint(0, len(documents[other]) - 1):]:
                    tokens_b.extend(sentence)
                    if len(tokens_b) >= wanted:
                        break
                i -= len(chunk) - a_end  # unused sentences are put back
            elif nsp:
                label = 0
                tokens_b = [token for sentence in chunk[a_end:] for token in sentence]
            truncate_pair(tokens_a, tokens_b, budget, rng)
            ids = [special["[CLS]"]] + tokens_a + [special["[SEP]"]]
            first_segment = len(ids)
            if nsp:
                ids += tokens_b + [special["[SEP]"]]
            yield ids, first_segment, label
            chunk = []
        i += 1


def mask(ids, settings, special, continues, vocab_size, rng):
    candidates = []
    for i, token in enumerate(ids):
        if token in (special["[CLS]"], special["[SEP]"]):
            continue
        if settings["whole_word_masking"] and candidates and token in continues:
            candidates[-1].append(i)
        else:
            candidates.append([i])
    rng.shuffle(candidates)
    wanted = min(settings["max_predictions"], max(1, int(round(len(ids) * settings["masked_lm_prob"]))))
    shown, chosen = list(ids), []
    for group in candidates:
        if len(chosen) >= wanted:
            break
        if len(chosen) + len(group) > wanted:
            continue
        for i in group:
            if rng.random() < 0.8:
                shown[i] = special["[MASK]"]
            elif rng.random() >= 0.5:
                shown[i] = rng.randint(0, vocab_size - 1)
            chosen.append(i)
    chosen.sort()
    return shown, chosen, [ids[i] for i in chosen]


# ---- The shards --------------------------------------------------------------------------------------------------------

def read_shard(path):
    data = path.read_bytes()
    head = struct.unpack("<8s6I3Q2I", data[:64])
    magic, version, _, id_bytes, _, _, _, examples, index_offset, file_bytes, index_crc, head_crc = head
    assert magic == b"MBSHARD\n" and version == 1 and file_bytes == len(data), head
    assert zlib.crc32(data[:60]) == head_crc and zlib.crc32(data[index_offset:]) == index_crc, path
    offsets = struct.unpack(f"<{examples + 1}Q", data[index_offset:])
    letter = "H" if id_bytes == 2 else "I"
    for begin, end in zip(offsets, offsets[1:]):
        crc, length, first_segment, masked, label, _ = struct.unpack_from("<I3HbB", data, begin)
        assert zlib.crc32(data[begin + 4:end]) == crc, (path, begin)
        body = struct.unpack_from(f"<{length + masked}{letter}{masked}H", data, begin + 12)
        yield (list(body[:length]), first_segment, label, list(body[length + masked:]), list(body[length:length + masked]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recording", type=pathlib.Path)
    parser.add_argument("shards", type=pathlib.Path)
    args = parser.parse_args()
    manifest = json.loads((args.shards / "manifest.json").read_text())
    settings, special = manifest["settings"], manifest["vocabulary"]
    vocabulary = (args.shards / "vocab.txt").read_text(encoding="utf-8").split("\n")[:special["size"]]
    continues = {i for i, token in enumerate(vocabulary) if token.startswith("##")}

    documents, passes, masks = [], [], []
    for line in args.recording.read_text().splitlines():
        entry = json.loads(line)
        (documents if "sentences" in entry else passes if "document" in entry else masks).append(entry)
    documents = [entry["sentences"] for entry in documents]
    stored = [example for shard in manifest["shards"] for example in read_shard(args.shards / shard["file"])]

    static, number = settings["masking"] == "static", 0
    lengths, shares, labels = collections.Counter(), collections.Counter(), collections.Counter()
    for entry in passes:
        rng = Replay(entry["draws"], f"document {entry['document']}, duplicate {entry['duplicate']}")
        for ids, first_segment, label in examples_of_document(documents, entry["document"], settings, special, rng):
            shown, positions, originals = ids, [], []
            if static:
                mask_rng = Replay(masks[number]["draws"], f"example {number}")
                shown, positions, originals = mask(ids, settings, special, continues, special["size"], mask_rng)
                mask_rng.finish()
            expected = (shown, first_segment, label, positions, originals)
            if number >= len(stored) or stored[number] != expected:
                print(f"example {number}: shard has\n  {stored[number:number + 1]}\nexpected\n  {expected}")
                sys.exit(1)
            number += 1
            lengths[len(ids)] += 1
            labels[label] += 1
            for position, original in zip(positions, originals):
                kind = "[MASK]" if shown[position] == special["[MASK]"] else "kept" if shown[position] == original else "random"
                shares[kind] += 1
        rng.finish()
    if number != len(stored):
        print(f"shards hold {len(stored)} examples, expected {number}")
        sys.exit(1)

    print(f"{number} examples are identical ({len(documents)} documents, {settings['duplicate_factor']} passes)")
    width = -(-settings["sequence_length"] // 16)
    for first in range(1, settings["sequence_length"] + 1, width):
        count = sum(lengths[length] for length in range(first, first + width))
        print(f"  length {first:4}..{first + width - 1:4} {count:8}")
    total = sum(shares.values())
    if total:
        print("masked tokens: " + ", ".join(f"{k} {100 * shares[k] / total:.2f} %" for k in ("[MASK]", "kept", "random")))
    print("next sentence: " + ", ".join(f"{name} {labels[k]}" for k, name in ((0, "true"), (1, "random"), (-1, "none"))))


if __name__ == "__main__":
    main()
