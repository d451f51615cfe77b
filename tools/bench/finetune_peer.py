"""Fine-tunes a model with PyTorch and Transformers as minibert does: the same data, windows, recipe and scores.

    .venv/bin/python tools/bench/finetune_peer.py squad --model DIR --data TRAIN.json --evaluation-data DEV.json --seed 1
    .venv/bin/python tools/bench/finetune_peer.py classify --model DIR --data TRAIN.csv --evaluation-data TEST.csv --seed 1

Prints one JSON object: the scores, seconds a step, steps. The recipe is google-research/bert's: AdamW without bias correction, decay
0.01 but for biases and LayerNorm, clipping to a global norm of 1, warm-up over a tenth of the steps, linear decay, a head of truncated
normal weights. --pad batch pads to
the longest sequence of a batch, --pad max to --max-sequence-length as run_squad.py does. tools/bench/compare_finetune runs both.
"""

import argparse
import csv
import json
import pathlib
import sys
import time

import torch
from transformers import BertForQuestionAnswering, BertForSequenceClassification

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/models/text"))
import official_squad  # noqa: E402
import squad_reference  # noqa: E402


class GoogleAdamW:
    def __init__(self, model, steps, rate, warmup=0.1):
        decays = lambda name: not any(part in name for part in ("bias", "LayerNorm"))
        named = list(model.named_parameters())
        self.groups = []
        for decay in (0.01, 0.0):
            group = [p for name, p in named if decays(name) == (decay > 0)]
            self.groups.append((decay, group, [torch.zeros_like(p) for p in group], [torch.zeros_like(p) for p in group]))
        self.parameters = [p for _, p in named]
        self.steps, self.rate, self.warm = steps, rate, warmup * steps
        self.done = 0

    @torch.no_grad()
    def step(self):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        rate = self.rate * (self.done / self.warm if self.done < self.warm else 1 - self.done / self.steps)
        for decay, group, first, second in self.groups:
            gradients = [p.grad for p in group]
            torch._foreach_lerp_(first, gradients, 0.1)
            torch._foreach_mul_(second, 0.999)
            torch._foreach_addcmul_(second, gradients, gradients, 0.001)
            roots = torch._foreach_sqrt(second)
            torch._foreach_add_(roots, 1e-6)
            updates = torch._foreach_div(first, roots)
            if decay:
                torch._foreach_add_(updates, group, alpha=decay)
            torch._foreach_add_(group, updates, alpha=-rate)
        for p in self.parameters:
            p.grad = None
        self.done += 1


def google_head(linear):
    """Google's truncated normal. Its standard deviation is 0.88 of that of Transformers' normal, which shows in short runs: the loss
    after 100 steps of banking77 is 0.15 higher."""
    torch.nn.init.trunc_normal_(linear.weight, std=0.02, a=-0.04, b=0.04)
    torch.nn.init.zeros_(linear.bias)


def padded(sequences, length):
    """Sequences of (ids, first segment) as Transformers' inputs."""
    shape = (len(sequences), length)
    ids, segment, mask = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    for b, (tokens, first_segment) in enumerate(sequences):
        ids[b, : len(tokens)] = torch.tensor(tokens)
        segment[b, first_segment : len(tokens)] = 1
        mask[b, : len(tokens)] = 1
    return dict(input_ids=ids, token_type_ids=segment, attention_mask=mask)


def train(model, examples, labels_of, options):
    """examples: (ids, first segment, ...); labels_of(batch) gives the model's label arguments. Returns seconds a step."""
    steps = max(1, -(-int(len(examples) * options.epochs) // options.batch))
    steps = min(steps, options.max_steps or steps)
    optimizer = GoogleAdamW(model, steps, options.learning_rate)
    generator = torch.Generator().manual_seed(options.seed)
    order, seconds = [], []
    model.train()
    for step in range(steps):
        while len(order) < options.batch:
            order += torch.randperm(len(examples), generator=generator).tolist()
        batch, order = [examples[i] for i in order[: options.batch]], order[options.batch :]
        start = time.perf_counter()
        length = options.max_sequence_length if options.pad == "max" else max(len(e[0]) for e in batch)
        loss = model(**padded([e[:2] for e in batch], length), **labels_of(batch)).loss
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        if options.verbose and step % 20 == 0:
            print(f"step {step}/{steps} loss {loss.item():.3f} {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return dict(steps=steps, seconds_per_step=sum(seconds) / steps, train_seconds=sum(seconds))


@torch.no_grad()
def outputs(model, sequences):
    """The model's outputs a sequence, in order; batches of sequences of like lengths."""
    model.eval()
    results = [None] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i][0]))
    for first in range(0, len(order), 16):
        numbers = order[first : first + 16]
        batch = [sequences[i] for i in numbers]
        output = model(**padded(batch, max(len(ids) for ids, _ in batch)))
        for b, number in enumerate(numbers):
            length = len(batch[b][0])
            if hasattr(output, "start_logits"):
                results[number] = (output.start_logits[b, :length].tolist(), output.end_logits[b, :length].tolist())
            else:
                results[number] = output.logits[b].tolist()
    return results


def squad(options):
    vocab = str(pathlib.Path(options.model) / "vocab.txt")
    tokenizer = squad_reference.Tokenizer(vocab, lowercase=True)
    sizes = argparse.Namespace(length=options.max_sequence_length, stride=options.doc_stride, query=64)
    windows = squad_reference.windows_of(options.data, tokenizer, sizes)
    examples = [(w["ids"], w["first_segment"], w["start"], w["end"]) for w in windows]
    model = BertForQuestionAnswering.from_pretrained(options.model)
    google_head(model.qa_outputs)
    labels = lambda batch: dict(start_positions=torch.tensor([e[2] for e in batch]), end_positions=torch.tensor([e[3] for e in batch]))
    result = train(model, examples, labels, options)
    if options.evaluation_data:
        windows = squad_reference.windows_of(options.evaluation_data, tokenizer, sizes, training=False)
        scores = outputs(model, [(w["ids"], w["first_segment"]) for w in windows])
        answers = squad_reference.answers_of(windows, scores, tokenizer)
        ids = [qa["id"] for _, qa in squad_reference.questions_of(options.evaluation_data)]
        with open(options.evaluation_data, encoding="utf-8") as file:
            result |= official_squad.evaluate(json.load(file)["data"], {id: a[0][0] for id, a in zip(ids, answers)})
    return result


def classify(options):
    def rows(path):
        with open(path, encoding="utf-8", newline="") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    tokenizer = squad_reference.Tokenizer(str(pathlib.Path(options.model) / "vocab.txt"), lowercase=True)
    cls, sep = tokenizer.id("[CLS]"), tokenizer.id("[SEP]")
    encode = lambda text: [cls, *tokenizer.encode(text).ids[: options.max_sequence_length - 2], sep]
    texts = rows(options.data)
    number = {label: i for i, label in enumerate(sorted({label for _, label in texts}))}
    examples = [(ids, len(ids), number[label]) for ids, label in ((encode(text), label) for text, label in texts)]
    model = BertForSequenceClassification.from_pretrained(options.model, num_labels=len(number))
    google_head(model.classifier)
    result = train(model, examples, lambda batch: dict(labels=torch.tensor([e[2] for e in batch])), options)
    if options.evaluation_data:
        held_out = [(encode(text), number[label]) for text, label in rows(options.evaluation_data)]
        scores = outputs(model, [(ids, len(ids)) for ids, _ in held_out])
        right = sum(max(range(len(s)), key=s.__getitem__) == label for s, (_, label) in zip(scores, held_out))
        result["accuracy"] = right / len(held_out)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["squad", "classify"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--evaluation-data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--max-sequence-length", type=int, default=384)
    parser.add_argument("--doc-stride", type=int, default=128)
    parser.add_argument("--max-steps", type=int, default=0)
    parser.add_argument("--pad", choices=["batch", "max"], default="batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    print(json.dumps((squad if options.task == "squad" else classify)(options)))


if __name__ == "__main__":
    main()
