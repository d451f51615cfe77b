"""Goldens of tests/models/bert/heads_parity_test.cpp: the heads of BertForQuestionAnswering and BertForSequenceClassification.

    .venv/bin/python tools/goldens/heads.py tests/goldens/bert.safetensors tests/goldens/heads.safetensors

The loss of answers is Transformers' with the scores of padding at minus infinity: there is no padding here. Transformers itself lets
padding take part in the softmax. Encoder, pooler and batch are those of tools/goldens/bert.py, read from its file; head weights, answers and labels are drawn here.
HEAD is qa or classifier. Tensors: weights/NAME of the heads; span_start, span_end, label [B];
HEAD/plain/logits and HEAD/CASE/loss; HEAD/dropout/gradient/NAME in float64 rounded to float32;
HEAD/dropout/fp32_error/NAME = |g32 - g64| / |g64| of PyTorch's own float32. CASE is plain, or dropout: p = 0.1 at every site, with
the masks of tools/goldens/philox.py, the one on the classifier's pooled states among them.
"""

import sys

import bert
import numpy as np
import philox
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification
from transformers.models.bert import modeling_bert

CLASSES = 5
POOLED = 4  # purpose of dropout, core/philox.h


class PooledDropout(torch.nn.Module):
    """Multiplies the pooled states [B, H] by given factors."""

    def __init__(self):
        super().__init__()
        rows = [
            philox.hidden_mask(bert.P, bert.SEED, bert.DATA_STEP, 0, POOLED, sample, 1, bert.CONFIG["hidden_size"])[0]
            for sample in bert.SAMPLES
        ]
        self.factors = torch.from_numpy(np.stack(rows))

    def forward(self, x):
        return x * self.factors.to(x.dtype)


def padded(stored):
    """Transformers' inputs of the packed batch of bert.py's file."""
    B, S = len(bert.LENGTHS), max(bert.LENGTHS)
    real = torch.arange(S)[None, :] < torch.tensor(bert.LENGTHS)[:, None]
    ids, segment = torch.zeros((B, S), dtype=torch.int64), torch.zeros((B, S), dtype=torch.int64)
    ids[real], segment[real] = stored["batch/ids"].long(), stored["batch/segment"].long()
    return dict(input_ids=ids, token_type_ids=segment, attention_mask=real.long()), real


def run(head, weights, inputs, labels, dtype, dropout):
    original = modeling_bert.eager_attention_forward
    config = BertConfig(**bert.CONFIG, num_labels=2 if head == "qa" else CLASSES)
    config._attn_implementation = "eager"
    model = (BertForQuestionAnswering if head == "qa" else BertForSequenceClassification)(config).to(dtype).eval()
    missing = model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=False)
    assert not missing.missing_keys, missing.missing_keys
    if dropout:
        bert.install_dropout(model)
        model.dropout = PooledDropout()
    output = model(**inputs, **labels[head])
    loss, logits = output.loss, output.logits if head == "classifier" else None
    if head == "qa":
        padding = inputs["attention_mask"] == 0
        rows = zip((output.start_logits, output.end_logits), labels[head].values())
        losses = [torch.nn.functional.cross_entropy(x.masked_fill(padding, -torch.inf), right) for x, right in rows]
        loss, logits = sum(losses) / 2, torch.stack([output.start_logits, output.end_logits], dim=-1)
    loss.backward()
    modeling_bert.eager_attention_forward = original
    return logits.detach(), loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def main(source, path):
    torch.set_num_threads(1)
    stored = load_file(source)
    rng = np.random.default_rng(20260101)
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32) * 0.3)
    H = bert.CONFIG["hidden_size"]
    heads = {
        "qa_outputs.weight": draw(2, H), "qa_outputs.bias": draw(2),
        "classifier.weight": draw(CLASSES, H), "classifier.bias": draw(CLASSES),
    }  # fmt: skip
    weights = {name.removeprefix("weights/"): t for name, t in stored.items() if name.startswith("weights/bert.")} | heads
    inputs, real = padded(stored)
    places = [sorted(rng.integers(0, length, 2)) for length in bert.LENGTHS]
    start, end = torch.tensor(np.array(places)[:, 0]), torch.tensor(np.array(places)[:, 1])
    label = torch.from_numpy(rng.integers(0, CLASSES, len(bert.LENGTHS)))
    labels = {"qa": dict(start_positions=start, end_positions=end), "classifier": dict(labels=label)}
    tensors = {f"weights/{name}": tensor for name, tensor in heads.items()}
    tensors |= {"span_start": start.int(), "span_end": end.int(), "label": label.int()}
    for head in ("qa", "classifier"):
        for case, dropout in (("plain", False), ("dropout", True)):
            logits, loss, g64 = run(head, weights, inputs, labels, torch.float64, dropout)
            tensors[f"{head}/{case}/loss"] = loss.reshape(1).float()
            if not dropout:
                tensors[f"{head}/{case}/logits"] = (logits[real] if head == "qa" else logits).float()
                continue
            g32 = run(head, weights, inputs, labels, torch.float32, dropout)[2]
            for name, g in g64.items():
                tensors[f"{head}/{case}/gradient/{name}"] = g.float()
                tensors[f"{head}/{case}/fp32_error/{name}"] = ((g32[name].double() - g).norm() / g.norm()).reshape(1).float()
    metadata = {"format": "pt", "made_by": "tools/goldens/heads.py", "torch": torch.__version__, "transformers": transformers.__version__}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


if __name__ == "__main__":
    main(*sys.argv[1:])
