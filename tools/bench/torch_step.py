#!/usr/bin/env python3
"""Times one BERT pre-training step in PyTorch alone, the peer of `minibert bench step` on a machine that has no Transformers.

    tools/bench/torch_step.py --model base --batch 128 --seq 128 --precision bf16 --mode compile --device cuda

The same work: BERT with scaled_dot_product_attention and dropout 0.1, logits of masked rows only, next-sentence loss, gradients clipped
at norm 1, fused AdamW. bf16 is autocast with f32 weights; tf32 lets products round f32 factors. Prints one JSON line with the fields
of `minibert bench step --json`. Exit code 77, with the reason, where there is no PyTorch or no such device.

With RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set, as by torchrun, it is a rank of DistributedDataParallel over Gloo on the CPU, with
its default buckets of 25 MB; --batch is of each rank. tools/bench/overlap starts two of them.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

SIZES = {"tiny": (2, 128, 2, 512), "mini": (4, 256, 4, 1024), "small": (4, 512, 8, 2048), "base": (12, 768, 12, 3072),
         "large": (24, 1024, 16, 4096)}  # layers, hidden, heads, feed-forward


def make_model(torch, layers, hidden, heads, feed_forward, vocab, positions):
    nn, functional = torch.nn, torch.nn.functional

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
            self.up, self.down = nn.Linear(hidden, feed_forward), nn.Linear(feed_forward, hidden)
            self.norm1, self.norm2 = nn.LayerNorm(hidden, 1e-12), nn.LayerNorm(hidden, 1e-12)

        def forward(self, x):  # [B, S, H]
            q, k, v = self.qkv(x).view(*x.shape[:2], 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1)
            mixed = self.output(mixed.transpose(1, 2).reshape(x.shape))
            x = self.norm1(x + functional.dropout(mixed, 0.1))
            return self.norm2(x + functional.dropout(self.down(functional.gelu(self.up(x))), 0.1))

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(vocab, hidden), nn.Embedding(positions, hidden)
            self.segments, self.norm = nn.Embedding(2, hidden), nn.LayerNorm(hidden, 1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.transform, self.head_norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden, 1e-12)
            self.decoder_bias = nn.Parameter(torch.zeros(vocab))
            self.pooler, self.next_sentence = nn.Linear(hidden, hidden), nn.Linear(hidden, 2)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, ids, rows, labels, is_random):  # [B, S], [P], [P], [B]
            places = torch.arange(ids.shape[1], device=ids.device)
            x = self.words(ids) + self.places(places) + self.segments(torch.zeros_like(ids))
            x = functional.dropout(self.norm(x), 0.1)
            for layer in self.layers:
                x = layer(x)
            masked = self.head_norm(functional.gelu(self.transform(x.reshape(-1, hidden)[rows])))
            logits = functional.linear(masked, self.words.weight, self.decoder_bias.to(masked.dtype))
            pooled = self.next_sentence(torch.tanh(self.pooler(x[:, 0])))
            return functional.cross_entropy(logits.float(), labels) + functional.cross_entropy(pooled.float(), is_random)

    return Bert()


def random_batch(torch, a, generator):
    ids = torch.randint(5, a.vocab, (a.batch, a.seq), generator=generator)
    count = max(1, round(0.15 * a.seq))
    rows = torch.cat([b * a.seq + torch.randperm(a.seq, generator=generator)[:count].sort().values for b in range(a.batch)])
    is_random = torch.randint(0, 2, (a.batch,), generator=generator)
    return [t.to(a.device) for t in (ids, rows, ids.view(-1)[rows], is_random)]


def measure(torch, a):
    torch.manual_seed(a.seed)
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.set_float32_matmul_precision("high" if a.precision == "tf32" else "highest")
    layers, hidden, heads, feed_forward = SIZES[a.model]
    model = make_model(torch, a.layers or layers, hidden, heads, feed_forward, a.vocab, max(512, a.seq)).to(a.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if a.mode == "compile" else model
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
        forward = torch.nn.parallel.DistributedDataParallel(forward)
    generator = torch.Generator().manual_seed(a.seed + rank)

    def now():
        if a.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    times = []
    for step in range(a.warmup + a.steps):
        batch = random_batch(torch, a, generator)
        start = now()
        with torch.autocast(a.device, torch.bfloat16, enabled=a.precision == "bf16"):
            loss = forward(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = float(loss.detach())  # minibert reads it too
        if step >= a.warmup:
            times.append(now() - start)
    if world > 1:
        torch.distributed.destroy_process_group()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if a.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
    return dict(peer=f"torch {torch.__version__}", model=a.model, batch=a.batch, seq=a.seq, precision=a.precision, mode=a.mode, head="masked",
                attention="sdpa", threads=torch.get_num_threads(), padded=False, ranks=world,
                step_s={name: round(of(times), 4) for name, of in (("min", min), ("median", statistics.median), ("max", max))},
                sequences_per_s=round(a.batch * len(times) / sum(times), 3),
                real_tokens_per_s=round(a.batch * a.seq * len(times) / sum(times), 1), loss=round(loss, 4), peak_mib=round(peak))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base", choices=SIZES)
    parser.add_argument("--layers", type=int, help="instead of the model's own number")
    parser.add_argument("--vocab", type=int, default=30522)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--mode", default="eager", choices=["eager", "compile"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="left out: as many as PyTorch takes")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("this Python has no PyTorch")
        return 77
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no GPU")
        return 77
    print(json.dumps(measure(torch, arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
