"""Golden of tests/models/training/ddp_parity_test.cpp: PyTorch's DistributedDataParallel trains a small BERT on two ranks.

    .venv/bin/python tools/goldens/ddp.py tests/goldens/ddp.safetensors

Two processes over Gloo, Transformers' BertForPreTraining without dropout, torch.optim.AdamW. A step has three micro-batches:
rank 0 adds up over the first and the last (no_sync), rank 1 has the second. Sequences are of 3 to 24 tokens, and each has one
to four masked ones, so the ranks never have the same number of them. The loss is the mean over all masked tokens of the step,
plus that over all sequences. DDP averages gradients over ranks, so each rank's loss is
    world * (its sum over masked tokens / masked tokens of the step + its sum over sequences / sequences of the step).
Everything runs in float64 (expected values) and in float32 (its own error, which bounds ours).

Tensors: weights/NAME; STEP/MICRO/FIELD, packed as minibert packs; losses [STEPS, 2] in float64, masked tokens' and sequences'
mean before the step's update; fp32_loss_error [STEPS, 2], relative; gradient/NAME of the first step in float64 rounded to
float32; fp32_error/NAME = |g32 - g64| / |g64|. The errors depend a little on the machine.
"""

import contextlib
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertForPreTraining

WORLD, STEPS, SEED = 2, 16, 20250607
OWNER = (0, 1, 0)  # of a step's micro-batches
SEQUENCES, LONGEST, WORDS = 4, 24, 40
FIRST_WORD, CLS, SEP, MASK = 5, 2, 3, 4
CONFIG = dict(
    vocab_size=FIRST_WORD + WORDS, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=192,
    max_position_embeddings=LONGEST, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, hidden_act="gelu",
    initializer_range=0.1,
)  # fmt: skip
OPTIMIZER = dict(lr=5e-3, betas=(0.9, 0.999), eps=1e-8)
DECAY = 0.01  # of what is neither a bias nor LayerNorm's


def make_sequence(rng):
    """[CLS] a [SEP] b [SEP], in a language where a word's successor is the next one; b goes on where a ends, or anywhere."""
    length = int(rng.integers(6, LONGEST + 1))
    first = int(rng.integers(1, length - 4))  # words of a
    is_random = int(rng.integers(0, 2))
    start = int(rng.integers(0, WORDS))
    words = FIRST_WORD + (start + np.arange(length - 3)) % WORDS
    if is_random:
        words[first:] = FIRST_WORD + (words[first:] + int(rng.integers(1, WORDS))) % WORDS
    ids = np.array([CLS, *words[:first], SEP, *words[first:], SEP])
    masked = np.sort(rng.choice(length, int(rng.integers(1, 5)), replace=False))
    labels = ids[masked].copy()
    ids[masked] = MASK
    return dict(ids=ids, first_segment=first + 2, masked=masked, labels=labels, is_random=is_random)


def padded(sequences):
    """What Transformers reads: tensors of a micro-batch."""
    B, S = len(sequences), max(len(s["ids"]) for s in sequences)
    ids, segment, labels = np.zeros((B, S), np.int64), np.zeros((B, S), np.int64), np.full((B, S), -100)
    real = np.zeros((B, S), np.int64)
    for b, s in enumerate(sequences):
        length = len(s["ids"])
        ids[b, :length], real[b, :length] = s["ids"], 1
        segment[b, s["first_segment"] : length] = 1
        labels[b, s["masked"]] = s["labels"]
    return [torch.from_numpy(x) for x in (ids, segment, real, labels, np.array([s["is_random"] for s in sequences]))]


def packed(sequences, first_sample):
    lengths = [len(s["ids"]) for s in sequences]
    begin = np.concatenate([[0], np.cumsum(lengths)])
    fields = {
        "ids": np.concatenate([s["ids"] for s in sequences]),
        "segment": np.concatenate([np.arange(n) >= s["first_segment"] for n, s in zip(lengths, sequences)]),
        "cu_seqlens": begin,
        "mlm_row": np.concatenate([at + s["masked"] for at, s in zip(begin, sequences)]),
        "mlm_label": np.concatenate([s["labels"] for s in sequences]),
        "nsp_label": np.array([s["is_random"] for s in sequences]),
        "sample": first_sample + np.arange(len(sequences)),
    }
    return {name: torch.from_numpy(values.astype(np.int32)) for name, values in fields.items()}


def loss_sums(model, batch):
    """Of masked tokens and of sequences."""
    ids, segment, real, labels, is_random = batch
    output = model(input_ids=ids, token_type_ids=segment, attention_mask=real)
    tokens = torch.nn.functional.cross_entropy(output.prediction_logits[labels >= 0], labels[labels >= 0], reduction="sum")
    return tokens, torch.nn.functional.cross_entropy(output.seq_relationship_logits, is_random, reduction="sum")


def make_optimizer(model):
    groups = {decay: [] for decay in (DECAY, 0.0)}
    for name, parameter in model.named_parameters():
        groups[0.0 if "bias" in name or "LayerNorm" in name else DECAY].append(parameter)
    return torch.optim.AdamW([dict(params=p, weight_decay=decay) for decay, p in groups.items()], **OPTIMIZER)


def train(rank, weights, steps, dtype):
    """The losses [STEPS, 2] and the first step's gradients by name."""
    config = BertConfig(**CONFIG)
    config._attn_implementation = "eager"
    model = BertForPreTraining(config).to(dtype)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=False)
    model.tie_weights()
    model.train()  # no dropout: its probabilities are 0
    parallel, optimizer = DistributedDataParallel(model, bucket_cap_mb=0.02), make_optimizer(model)
    losses, first = torch.zeros(len(steps), 2, dtype=torch.float64), {}
    for number, step in enumerate(steps):
        batches = [padded(sequences) for sequences in step]
        masked, sequences = sum(int((b[3] >= 0).sum()) for b in batches), sum(len(s) for s in step)
        mine = [b for b, owner in zip(batches, OWNER) if owner == rank]
        for i, batch in enumerate(mine):
            with contextlib.nullcontext() if i + 1 == len(mine) else parallel.no_sync():
                tokens, pairs = loss_sums(parallel, batch)
                (WORLD * (tokens / masked + pairs / sequences)).backward()
            losses[number] += torch.stack([tokens / masked, pairs / sequences]).detach().double()
        if number == 0:
            first = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    torch.distributed.all_reduce(losses)
    return losses, first


def run_rank(rank, folder, weights, steps):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    results = {dtype: train(rank, weights, steps, dtype) for dtype in (torch.float64, torch.float32)}
    torch.distributed.destroy_process_group()
    if rank == 0:
        torch.save(results, f"{folder}/results")


def main(path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = BertForPreTraining(BertConfig(**CONFIG))
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steps = [[[make_sequence(rng) for _ in range(SEQUENCES)] for _ in OWNER] for _ in range(STEPS)]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run_rank, (folder, weights, steps), nprocs=WORLD)
        results = torch.load(pathlib.Path(folder) / "results")
    (losses, g64), (losses32, g32) = results[torch.float64], results[torch.float32]
    tensors = {f"weights/{name}": tensor for name, tensor in weights.items()}
    for number, step in enumerate(steps):
        for micro, sequences in enumerate(step):
            fields = packed(sequences, micro * SEQUENCES)
            tensors |= {f"{number}/{micro}/{name}": values for name, values in fields.items()}
    tensors["losses"], tensors["fp32_loss_error"] = losses, (losses32 - losses).abs() / losses
    for name, g in g64.items():
        tensors[f"gradient/{name}"] = g.float()
        tensors[f"fp32_error/{name}"] = (g32[name] - g).norm() / g.norm()
    masked = [[sum(len(s["masked"]) for sequences, o in zip(step, OWNER) if o == rank for s in sequences) for rank in range(WORLD)]
              for step in steps]
    assert all(a != b for a, b in masked), "ranks must have different numbers of masked tokens"
    print(f"losses: first {losses[0].tolist()}, last {losses[-1].tolist()}; fp32 is off by {tensors['fp32_loss_error'].max():.1e}")
    metadata = {
        "format": "pt", "made_by": "tools/goldens/ddp.py", "torch": torch.__version__, "transformers": transformers.__version__,
        "config": json.dumps({**CONFIG, "model_type": "bert"}), "owner": json.dumps(OWNER), "weight_decay": str(DECAY),
        "learning_rate": str(OPTIMIZER["lr"]),
    }  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


if __name__ == "__main__":
    main(*sys.argv[1:])
