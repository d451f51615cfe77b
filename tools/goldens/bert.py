"""Goldens of tests/models/bert/parity_test.cpp: a small BertForPreTraining of Transformers, its outputs and gradients.

    .venv/bin/python tools/goldens/bert.py tests/goldens/bert.safetensors
    .venv/bin/python tools/goldens/bert.py OTHER/tests/goldens/bert.safetensors 7    another model and batch, from seed 7:
                                           MINIBERT_SOURCE_DIR=OTHER build/cpu/bin/models_bert_parity_test compares with it

The model runs in float64 (expected values) and in float32 (its own error, which bounds ours), with large random weights,
LayerNorms far from 1 and 0, sequences of uneven lengths (1 among them) and both heads. Cases:
  plain     no dropout, erf-GELU
  dropout   p = 0.1 at every site, with the masks of tools/goldens/philox.py
  tanh      as plain with gelu_new: outputs and losses only
Tensors: weights/NAME; batch/FIELD (packed as minibert packs); CASE/hidden, mlm_logits, nsp_logits, losses;
CASE/gradient/NAME in float64 rounded to float32; CASE/fp32_error/NAME = |g32 - g64| / |g64| of PyTorch's own float32;
CASE/bf16_error/NAME and fp16_error/NAME the same for float32 weights under torch.autocast, the losses scaled by SCALE in
fp16; CASE/bf16_loss_error and fp16_loss_error = the largest error of the three losses, relative to the largest. All errors
depend a little on the machine (which kernels PyTorch takes).
"""

import json
import sys

import numpy as np
import philox
import torch
import transformers
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining
from transformers.models.bert import modeling_bert

LENGTHS = [48, 1, 7, 33, 16, 2, 40, 25, 8, 9, 15, 48, 3, 31, 20, 12]
SAMPLES = [5, 0, 300, 9, 2, 7, 70000, 1, 12, 3, 4, 88, 6, 31, 10, 11]
SEED, DATA_STEP, P = 0x1234_5678_9ABC_DEF0, 77, 0.1
SCALE = 1024.0  # of the loss, under fp16
CONFIG = dict(
    vocab_size=203, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=200,
    max_position_embeddings=48, hidden_dropout_prob=P, attention_probs_dropout_prob=P, hidden_act="gelu",
)  # fmt: skip


def make_batch(rng):
    """Padded arrays for Transformers. Id 0 stands on padding only: nn.Embedding(padding_idx=0) has no gradient for it."""
    B, S = len(LENGTHS), max(LENGTHS)
    ids, segment, labels = np.zeros((B, S), np.int64), np.zeros((B, S), np.int64), np.full((B, S), -100)
    for b, length in enumerate(LENGTHS):
        ids[b, :length] = rng.integers(1, CONFIG["vocab_size"], length)
        segment[b, length // 2 : length] = 1
        if b != 2:  # one sequence has no masked position
            masked = rng.choice(length, max(1, round(0.2 * length)), replace=False)
            labels[b, masked] = rng.integers(0, CONFIG["vocab_size"], len(masked))
    real = np.arange(S)[None, :] < np.array(LENGTHS)[:, None]
    return dict(ids=ids, segment=segment, labels=labels, real=real, nsp=rng.integers(0, 2, B))


def randomise(model, rng):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.4 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.4 * noise)
            else:
                parameter.copy_((0.5 if "embeddings" in name else 0.2) * noise)


class FixedDropout(torch.nn.Module):
    """Multiplies hidden states [B, S, H] by given factors."""

    def __init__(self, layer, purpose):
        super().__init__()
        factors = np.zeros((len(LENGTHS), max(LENGTHS), CONFIG["hidden_size"]))
        for b, (sample, length) in enumerate(zip(SAMPLES, LENGTHS)):
            factors[b, :length] = philox.hidden_mask(
                P, SEED, DATA_STEP, layer, purpose, sample, length, CONFIG["hidden_size"]
            )
        self.factors = torch.from_numpy(factors)

    def forward(self, x):
        return x * self.factors.to(x.dtype)


def attention_factors(layer):
    A, S = CONFIG["num_attention_heads"], max(LENGTHS)
    factors = np.zeros((len(LENGTHS), A, S, S))
    for b, (sample, length) in enumerate(zip(SAMPLES, LENGTHS)):
        factors[b, :, :length, :length] = philox.attention_mask(P, SEED, DATA_STEP, layer, sample, A, length)
    return torch.from_numpy(factors)


def install_dropout(model):
    """Puts the fixed masks where Transformers drops."""
    model.bert.embeddings.dropout = FixedDropout(0, philox.EMBEDDING)
    factors = {}
    for i, layer in enumerate(model.bert.encoder.layer):
        layer.attention.output.dropout = FixedDropout(i, philox.ATTENTION_OUTPUT)
        layer.output.dropout = FixedDropout(i, philox.FEED_FORWARD)
        factors[layer.attention.self] = attention_factors(i)

    def attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
        scores = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 + attention_mask
        weights = torch.softmax(scores, dim=-1) * factors[module].to(query.dtype)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    modeling_bert.eager_attention_forward = attention


def run(weights, batch, dtype, dropout, hidden_act="gelu", autocast=None):
    original = modeling_bert.eager_attention_forward
    config = BertConfig(**{**CONFIG, "hidden_act": hidden_act})
    config._attn_implementation = "eager"
    model = BertForPreTraining(config).to(dtype).eval()  # eval: no dropout but the installed one
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=False)
    model.tie_weights()
    if dropout:
        install_dropout(model)
    labels = torch.from_numpy(batch["labels"])
    hidden = []
    model.bert.encoder.register_forward_hook(lambda m, i, output: hidden.append(output[0]))
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        output = model(
            input_ids=torch.from_numpy(batch["ids"]), token_type_ids=torch.from_numpy(batch["segment"]),
            attention_mask=torch.from_numpy(batch["real"].astype(np.int64)),
        )  # fmt: skip
        # As torch.nn.CrossEntropyLoss computes under autocast: in float32.
        scores = output.prediction_logits[labels >= 0].to(torch.promote_types(output.prediction_logits.dtype, torch.float32))
        pairs = output.seq_relationship_logits.to(torch.promote_types(output.seq_relationship_logits.dtype, torch.float32))
    mlm = torch.nn.functional.cross_entropy(scores, labels[labels >= 0])
    nsp = torch.nn.functional.cross_entropy(pairs, torch.from_numpy(batch["nsp"]))
    scale = SCALE if autocast == torch.float16 else 1.0
    (scale * (mlm + nsp)).backward()
    modeling_bert.eager_attention_forward = original
    outputs = {
        "hidden": hidden[0][torch.from_numpy(batch["real"])],
        "mlm_logits": output.prediction_logits[labels >= 0],
        "nsp_logits": output.seq_relationship_logits,
        "losses": torch.stack([mlm, nsp, mlm + nsp]),
    }
    gradients = {name: p.grad / scale for name, p in model.named_parameters()}
    return {name: tensor.detach() for name, tensor in outputs.items()}, gradients


def packed(batch):
    real = batch["real"]
    B, S = real.shape
    cu_seqlens = np.concatenate([[0], np.cumsum(LENGTHS)])
    flat_labels = batch["labels"][real]
    fields = {
        "ids": batch["ids"][real],
        "segment": batch["segment"][real],
        "position": np.broadcast_to(np.arange(S), (B, S))[real],
        "row_sample": np.broadcast_to(np.array(SAMPLES)[:, None], (B, S))[real],
        "cu_seqlens": cu_seqlens,
        "mlm_row": np.flatnonzero(flat_labels >= 0),
        "mlm_label": flat_labels[flat_labels >= 0],
        "nsp_label": batch["nsp"],
        "sample": np.array(SAMPLES),
    }
    return {f"batch/{name}": torch.from_numpy(value.astype(np.int32)) for name, value in fields.items()}


def make_case(seed):
    """Weights by name and a batch."""
    rng = np.random.default_rng(seed)
    model = BertForPreTraining(BertConfig(**CONFIG))
    randomise(model, rng)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}, make_batch(rng)


def autocast_errors(weights, batch, g64, dropout, label):
    """Outputs, and the error by parameter, of a step under autocast: "bf16" or "fp16"."""
    outputs, g16 = run(weights, batch, torch.float32, dropout, autocast={"bf16": torch.bfloat16, "fp16": torch.float16}[label])
    return outputs, {name: (g16[name].double() - g).norm() / g.norm() for name, g in g64.items()}


def golden(weights, batch, tell=lambda line: None):
    """Tensors by name."""
    tensors = {f"weights/{name}": tensor for name, tensor in weights.items()} | packed(batch)
    for case, dropout, hidden_act in [("plain", False, "gelu"), ("dropout", True, "gelu"), ("tanh", False, "gelu_new")]:
        outputs, g64 = run(weights, batch, torch.float64, dropout, hidden_act)
        outputs32, g32 = run(weights, batch, torch.float32, dropout, hidden_act)
        for name, tensor in outputs.items():
            tensors[f"{case}/{name}"] = tensor.float() if tensor.dim() > 1 else tensor
            error = ((outputs32[name] - tensor).abs().max() / tensor.abs().max()).item()
            tell(f"{case:8} {name:12} PyTorch fp32 is off by {error:.2e} of the largest {tensor.abs().max():.3g}")
        if case == "tanh":
            continue
        for name, g in g64.items():
            tensors[f"{case}/gradient/{name}"] = g.float()
            tensors[f"{case}/fp32_error/{name}"] = (g32[name] - g).norm() / g.norm()
        for label in ("bf16", "fp16"):
            outputs16, errors = autocast_errors(weights, batch, g64, dropout, label)
            losses = outputs["losses"]
            error = (outputs16["losses"].double() - losses).abs().max() / losses.abs().max()
            tensors[f"{case}/{label}_loss_error"] = error
            tensors |= {f"{case}/{label}_error/{name}": error for name, error in errors.items()}
            tell(f"{case:8} {label} losses are off by {error:.2e}")
    return tensors


def write(tensors, path):
    metadata = {
        "format": "pt", "made_by": "tools/goldens/bert.py", "torch": torch.__version__,
        "transformers": transformers.__version__, "config": json.dumps({**CONFIG, "model_type": "bert"}),
        "seed": str(SEED), "data_step": str(DATA_STEP), "loss_scale": str(SCALE),
    }  # fmt: skip
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def main(path, seed=20250101):
    torch.set_num_threads(1)
    write(golden(*make_case(int(seed)), tell=print), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
