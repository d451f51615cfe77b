"""What google-research/bert's run_squad.py makes of SQuAD, written anew from its description: windows, and answers from scores.

    squad_reference.py windows DATA VOCAB OUT [--cased] [--length 384] [--stride 128] [--query 64]
    squad_reference.py answers DATA VOCAB SCORES OUT [--cased] ...

`windows` writes a JSON list, one object a window: question (number), ids, first_segment, first_token, max_context, start, end.
`answers` reads SCORES, [[start scores, end scores] a window], and writes for each question its n best [text, start, end].
Tokens come from `tokenizers`; everything else is plain Python. Called by squad_windows_test.cpp and squad_answers_test.cpp with the
Python of MINIBERT_PYTHON, and by tools/bench/finetune_peer.py.
"""

import argparse
import collections
import json

from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

SEPARATORS = " \t\r\n\u202f"


class Tokenizer:
    def __init__(self, vocab, lowercase):
        self.pieces = BertWordPieceTokenizer(vocab, lowercase=lowercase, strip_accents=lowercase)
        self.normalizer = BertNormalizer(lowercase=lowercase, strip_accents=lowercase)
        self.splitter = BertPreTokenizer()

    def encode(self, text):
        return self.pieces.encode(text, add_special_tokens=False)

    def words(self, text):
        return [word for word, _ in self.splitter.pre_tokenize_str(self.normalizer.normalize_str(text))]

    def id(self, token):
        return self.pieces.token_to_id(token)


def questions_of(path):
    with open(path, encoding="utf-8") as file:
        for article in json.load(file)["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    yield paragraph["context"], qa


class Context:
    def __init__(self, text, tokenizer):
        self.words, self.word_of_character = [], []
        before = True
        for c in text:
            if c in SEPARATORS:
                before = True
            else:
                if before:
                    self.words.append("")
                self.words[-1] += c
                before = False
            self.word_of_character.append(len(self.words) - 1)
        self.ids, self.tokens, self.word_of_token, self.token_of_word = [], [], [], []
        for number, word in enumerate(self.words):
            self.token_of_word.append(len(self.ids))
            encoded = tokenizer.encode(word)
            self.ids += encoded.ids
            self.tokens += encoded.tokens
            self.word_of_token += [number] * len(encoded.ids)


def better_span(tokens, first, last, answer):
    """The answer's own tokens inside its words, if they are there."""
    wanted = " ".join(answer)
    for start in range(first, last + 1):
        for end in range(last, start - 1, -1):
            if " ".join(tokens[start : end + 1]) == wanted:
                return start, end
    return first, last


def has_most_context(spans, number, position):
    best_score, best = None, None
    for index, (first, length) in enumerate(spans):
        last = first + length - 1
        if position < first or position > last:
            continue
        score = min(position - first, last - position) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best = score, index
    return number == best


def windows_of(path, tokenizer, options, training=True):
    contexts = {}
    windows = []
    for number, (text, qa) in enumerate(questions_of(path)):
        if text not in contexts:
            contexts[text] = Context(text, tokenizer)
        context = contexts[text]
        query = tokenizer.encode(qa["question"]).ids[: options.query]
        first = last = None
        if training:
            answer = qa["answers"][0]
            start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"]) - 1
            first = context.token_of_word[context.word_of_character[start]]
            after = context.word_of_character[end] + 1
            last = context.token_of_word[after] - 1 if after < len(context.words) else len(context.ids) - 1
            first, last = better_span(context.tokens, first, last, tokenizer.encode(answer["text"]).tokens)
        room = options.length - len(query) - 3
        spans, begin = [], 0
        while begin < len(context.ids):
            length = min(len(context.ids) - begin, room)
            spans.append((begin, length))
            if begin + length == len(context.ids):
                break
            begin += min(length, options.stride)
        for index, (begin, length) in enumerate(spans):
            inside = training and first >= begin and last < begin + length
            shift = len(query) + 2
            windows.append({
                "question": number,
                "ids": [tokenizer.id("[CLS]"), *query, tokenizer.id("[SEP]"), *context.ids[begin : begin + length], tokenizer.id("[SEP]")],
                "first_segment": shift,
                "first_token": begin,
                "max_context": [has_most_context(spans, index, begin + i) for i in range(length)],
                "start": first - begin + shift if inside else 0,
                "end": last - begin + shift if inside else 0,
                "context": context,
            })  # fmt: skip
    return windows


def final_text(predicted, original, tokenizer):
    def without_blanks(text):
        places = [i for i, c in enumerate(text) if c != " "]
        return "".join(text[i] for i in places), places

    spelt = " ".join(tokenizer.words(original))
    start = spelt.find(predicted)
    if start == -1:
        return original
    end = start + len(predicted) - 1
    original_letters, original_places = without_blanks(original)
    spelt_letters, spelt_places = without_blanks(spelt)
    if len(original_letters) != len(spelt_letters):
        return original
    letter_at = {place: number for number, place in enumerate(spelt_places)}
    if start not in letter_at or end not in letter_at:
        return original
    return original[original_places[letter_at[start]] : original_places[letter_at[end]] + 1]


def answers_of(windows, scores, tokenizer, n_best=20, longest=30):
    """For each question the n best [text, start score, end score]."""
    by_question = collections.defaultdict(list)
    for window, pair in zip(windows, scores):
        by_question[window["question"]].append((window, *pair))
    answers = []
    for number in range(max(by_question) + 1):
        candidates = []
        for window, starts, ends in by_question[number]:
            best = lambda values: sorted(range(len(values)), key=lambda i: -values[i])[:n_best]
            first = window["first_segment"]
            beyond = first + len(window["max_context"])
            for start in best(starts):
                for end in best(ends):
                    if not (first <= start < beyond and start <= end < beyond) or end - start + 1 > longest:
                        continue
                    if window["max_context"][start - first]:
                        candidates.append((starts[start] + ends[end], window, start, end, starts[start], ends[end]))
        candidates.sort(key=lambda c: -c[0])
        ranked, seen = [], set()
        for _, window, start, end, start_score, end_score in candidates:
            if len(ranked) >= n_best:
                break
            context, shift = window["context"], window["first_token"] - window["first_segment"]
            tokens = context.tokens[start + shift : end + shift + 1]
            predicted = " ".join(" ".join(tokens).replace(" ##", "").replace("##", "").split())
            words = context.words[context.word_of_token[start + shift] : context.word_of_token[end + shift] + 1]
            text = final_text(predicted, " ".join(words), tokenizer)
            if text not in seen:
                seen.add(text)
                ranked.append([text, start_score, end_score])
        answers.append(ranked or [["empty", 0.0, 0.0]])
    return answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["windows", "answers"])
    parser.add_argument("data")
    parser.add_argument("vocab")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--length", type=int, default=384)
    parser.add_argument("--stride", type=int, default=128)
    parser.add_argument("--query", type=int, default=64)
    options = parser.parse_args()
    tokenizer = Tokenizer(options.vocab, not options.cased)
    windows = windows_of(options.data, tokenizer, options)
    if options.command == "answers":
        with open(options.files[0]) as file:
            result = answers_of(windows, json.load(file), tokenizer)
    else:
        result = [{key: value for key, value in window.items() if key != "context"} for window in windows]
    with open(options.files[-1], "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
