"""Tiny random models of every family, each with a tokenizer made on the spot: real Hugging Face folders."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    DistilBertTokenizer,
    ElectraConfig,
    ElectraTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaTokenizer,
)

FAMILIES = ("bert", "roberta", "electra", "distilbert")
TASKS = ("sequence-classification", "regression")
MAX_TOKENS = 128
_TEXT = (
    "the a film story plot actor scene was is very not good great fine warm bright bad dull cold weak poor "
    "and but with of in it this that i we saw liked hated . , !"
)
WORDS = _TEXT.split()
"""What the tokenizers know as whole words; every other word becomes single characters."""

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def tiny_tokenizer(family: str) -> PreTrainedTokenizerBase:
    """WordPiece (BERT, ELECTRA, DistilBERT) or byte-level BPE (RoBERTa)."""
    if family == "roberta":
        return _byte_pairs()
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *_CHARACTERS,
        *(f"##{c}" for c in _CHARACTERS),
    ]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    kinds = {"bert": BertTokenizer, "electra": ElectraTokenizer, "distilbert": DistilBertTokenizer}
    return kinds[family](vocab=vocabulary, model_max_length=MAX_TOKENS)


def _byte_pairs() -> RobertaTokenizer:
    """A space is written Ġ; words of `WORDS` are merged letter by letter from the left."""
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        symbols = ["Ġ", *word]
        for end in range(1, len(symbols)):
            merges.append(("".join(symbols[:end]), symbols[end]))
    merges = list(dict.fromkeys(merges))
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "<mask>",
        "Ġ",
        *_CHARACTERS,
        *".,!'-",
        *("".join(m) for m in merges),
    ]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return RobertaTokenizer(
        vocab=vocabulary, merges=merges, add_prefix_space=True, model_max_length=MAX_TOKENS
    )


def tiny_config(
    family: str, *, layers: int = 2, hidden: int = 32, heads: int = 4, ffn: int = 48, num_labels: int = 2
) -> PreTrainedConfig:
    """A configuration without dropout for `MAX_TOKENS` tokens."""
    common: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer(family)),
        "num_labels": num_labels,
        "initializer_range": 0.1,
    }
    if family == "distilbert":
        sizes = {"n_layers": layers, "dim": hidden, "n_heads": heads, "hidden_dim": ffn}
        dropout = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
        return DistilBertConfig(max_position_embeddings=MAX_TOKENS, **sizes, **dropout, **common)
    common |= {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if family == "roberta":  # its tokens are <s>, <pad>, </s>: position 0 and 1 are never used
        special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
        return RobertaConfig(max_position_embeddings=MAX_TOKENS + 2, type_vocab_size=1, **special, **common)
    if family == "electra":
        return ElectraConfig(max_position_embeddings=MAX_TOKENS, embedding_size=hidden // 2, **common)
    return BertConfig(max_position_embeddings=MAX_TOKENS, **common)


def tiny_model(
    family: str, task: str = "sequence-classification", *, seed: int = 0, num_labels: int = 2, **sizes: int
) -> PreTrainedModel:
    """A random model with a task head, in eval mode; biases and norms are random too, so that they matter.

    `sizes` are `layers`, `hidden`, `heads` and `ffn`.
    """
    config = tiny_config(family, num_labels=1 if task == "regression" else num_labels, **sizes)
    config.problem_type = "regression" if task == "regression" else "single_label_classification"
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return model.eval()


def tiny_inputs(
    model: PreTrainedModel, *, rows: int = 3, tokens: int = 11, seed: int = 1
) -> dict[str, Tensor]:
    """A random batch (rows, tokens) with padding at the end of every row but the first."""
    generator = torch.Generator().manual_seed(seed)
    padding = model.config.pad_token_id
    input_ids = torch.randint(5, model.config.vocab_size, (rows, tokens), generator=generator)
    lengths = tokens - 2 * torch.arange(rows).clamp(max=(tokens - 2) // 2)
    attention_mask = (torch.arange(tokens)[None, :] < lengths[:, None]).long()
    return {"input_ids": input_ids.where(attention_mask.bool(), padding), "attention_mask": attention_mask}


def save_tiny(
    folder: Path, family: str = "bert", task: str = "sequence-classification", **options: int
) -> Path:
    """Write model and tokenizer as one Hugging Face folder and return it."""
    tiny_model(family, task, **options).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def save_untrained(folder: Path, family: str = "bert", *, seed: int = 0, **sizes: int) -> Path:
    """Write a bare encoder without a task head, as a pretrained model would be."""
    tiny_model(family, seed=seed, **sizes).base_model.save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder
