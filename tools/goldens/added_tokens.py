"""Golden of tests/models/text/added_tokens_test.cpp: texts with added tokens, made by `tokenizers` 0.23.3.

    .venv/bin/python tools/goldens/added_tokens.py tests/goldens/tokenizer/added_tokens.json

Random sets of tokens with random flags, under random options of BertNormalizer, on random texts of the same few characters, so that
tokens overlap, stand beside letters, and begin where another one has taken the blanks.
"""

import json
import random
import sys

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

VOCAB = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "A", "##a", "##b", "##A", "é", "e", "##e", "##é", "中", ".", "1", "##1"]
PARTS = ["a", "b", "A", "é", "É", "e\u0301", "E", "\u0301", "中", ".", "1", "_", " ", "  ", "\t", "\u00a0", "\u2028", "\u200b", "\x01", "-", "ß"]


def random_text(draw, most):
    return "".join(draw.choice(PARTS) for _ in range(draw.randint(1, most)))


def random_tokens(draw, normalize):
    tokens = {}
    for _ in range(draw.randint(1, 6)):
        content = random_text(draw, 4)
        if normalize(content):  # an empty pattern would be found everywhere
            tokens[content] = {flag: draw.random() < 0.4 for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return [dict(content=content, **flags) for content, flags in tokens.items()]


def make(draw):
    options = {key: draw.random() < p for key, p in (("lowercase", 0.6), ("strip_accents", 0.5), ("split_chinese", 0.7), ("clean_text", 0.8))}
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(VOCAB)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=options["clean_text"], handle_chinese_chars=options["split_chinese"], strip_accents=options["strip_accents"],
        lowercase=options["lowercase"],
    )  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens = random_tokens(draw, tokenizer.normalizer.normalize_str)
    tokenizer.add_tokens([AddedToken(**token) for token in tokens])
    for token in tokens:
        token["id"] = tokenizer.token_to_id(token["content"])
    texts = [random_text(draw, 12) + (draw.choice(tokens)["content"] if tokens else "") + random_text(draw, 8) for _ in range(12)]
    return dict(options=options, tokens=tokens, texts=[[t, tokenizer.normalizer.normalize_str(t), tokenizer.encode(t).ids] for t in texts])


def main(out):
    draw = random.Random(13)
    with open(out, "w") as file:
        json.dump(dict(vocab=VOCAB, cases=[make(draw) for _ in range(60)]), file)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
