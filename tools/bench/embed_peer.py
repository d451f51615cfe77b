"""Sentence vectors by sentence-transformers, for tools/bench/compare_embed, which starts it and speaks to it over pipes.

Reads JSON lines {"texts": FILE, "first": N, "precision": "fp32|bf16|autocast", "batch": B}, answers each with a line {"seconds": of encode()
alone, the model being loaded}. bf16: all weights in bf16; autocast: torch.autocast over fp32 weights. {"compare": FILE} is answered with how
far the vectors of minibert's JSON lines are from the last ones: {"apart": largest difference of a number, "cosine": the smallest}.
"""

import contextlib
import json
import sys
import time

import sentence_transformers
import torch


def encode(model, job):
    with open(job["texts"], encoding="utf-8") as file:
        texts = file.read().splitlines()[: job["first"]]
    narrow = torch.autocast("cpu", dtype=torch.bfloat16) if job["precision"] == "autocast" else contextlib.nullcontext()
    start = time.perf_counter()
    with narrow:
        vectors = model.encode(texts, batch_size=job["batch"], normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=True)
    seconds = time.perf_counter() - start
    return vectors.float(), dict(seconds=seconds)


def compare(vectors, path):
    with open(path, encoding="utf-8") as file:
        theirs = torch.tensor([json.loads(line)["vector"] for line in file])
    return dict(apart=(vectors - theirs).abs().max().item(), cosine=torch.nn.functional.cosine_similarity(vectors, theirs).min().item())


def main():
    folder, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    models, vectors = {}, None
    versions = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
    print(json.dumps(dict(versions=versions)), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "compare" in job:
            print(json.dumps(compare(vectors, job["compare"])), flush=True)
            continue
        kind = torch.bfloat16 if job["precision"] == "bf16" else torch.float32
        if kind not in models:
            models[kind] = sentence_transformers.SentenceTransformer(folder, device="cpu").to(kind)
        vectors, answer = encode(models[kind], job)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
