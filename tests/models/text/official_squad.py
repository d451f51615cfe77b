"""The official script of SQuAD 1.1 as it is published, written anew from its description: what squad_metrics_test.py compares with.

    official_squad.py DATASET PREDICTIONS      prints {"exact_match": ..., "f1": ...}

Steps: lower case; ASCII punctuation out; the words a, an, the out; blanks squeezed. Exact match of the normalised texts; F1 over the
multisets of their words, 0 where none is common. The best over a question's answers; the mean over all questions, in percent. A
question without a prediction scores 0. Source: rajpurkar/SQuAD-explorer, evaluate-v1.1.py.
"""
import collections
import json
import re
import string
import sys


def normalise(text):
    kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def f1(prediction, answer):
    predicted, right = normalise(prediction).split(), normalise(answer).split()
    same = sum((collections.Counter(predicted) & collections.Counter(right)).values())
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(predicted), 1.0 * same / len(right)
    return (2 * precision * recall) / (precision + recall)


def evaluate(dataset, predictions):
    exact_sum = f1_sum = total = 0
    for article in dataset:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                total += 1
                if question["id"] not in predictions:
                    continue
                prediction = predictions[question["id"]]
                answers = [answer["text"] for answer in question["answers"]]
                exact_sum += max(normalise(prediction) == normalise(answer) for answer in answers)
                f1_sum += max(f1(prediction, answer) for answer in answers)
    return {"exact_match": 100.0 * exact_sum / total, "f1": 100.0 * f1_sum / total}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as data, open(sys.argv[2], encoding="utf-8") as answers:
        print(json.dumps(evaluate(json.load(data)["data"], json.load(answers))))
