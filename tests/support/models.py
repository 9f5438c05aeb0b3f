"""Tiny random models of every family, each with a tokenizer made on the spot: real Hugging Face folders."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    BertTokenizer,
    DebertaV2Tokenizer,
    DistilBertTokenizer,
    ElectraTokenizer,
    GPT2Tokenizer,
    MPNetTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from pruning.model.conv1d import as_linears
from pruning.planning.families import AUTO_CLASSES

FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "deberta-v2", "modernbert")
DECODERS = ("gpt2", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma")
KPRUNE_FAMILIES = FAMILIES[:5]
"""Those whose sub-layers K-prune can recompute."""
TASKS = ("sequence-classification", "regression")
"""The tasks with one answer for a row."""
MAX_TOKENS = 128
_TEXT = (
    "the a film story plot actor scene was is very not good great fine warm bright bad dull cold weak poor "
    "and but with of in it this that i we saw liked hated . , !"
)
WORDS = _TEXT.split()
"""What the tokenizers know as whole words; every other word becomes single characters."""

_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def tiny_tokenizer(family: str) -> PreTrainedTokenizerBase:
    """WordPiece, byte-level BPE (RoBERTa), Unigram (XLM-RoBERTa, DeBERTa), or of no family (ModernBERT)."""
    match family:
        case "roberta":
            return _byte_pairs()
        case "xlm-roberta":
            vocabulary = _unigrams("<s>", "<pad>", "</s>", "<unk>", "<mask>")
            return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=MAX_TOKENS)
        case "deberta-v2":
            vocabulary = _unigrams("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
            return DebertaV2Tokenizer(vocab=vocabulary, model_max_length=MAX_TOKENS)
        case "mpnet":
            vocabulary = _word_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
            return MPNetTokenizer(vocab=vocabulary, model_max_length=MAX_TOKENS)
    if family in DECODERS:
        return _text_pairs()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = _word_pieces(*special.values(), "[MASK]")
    if family == "modernbert":
        inner = BertTokenizer(vocab=vocabulary).backend_tokenizer
        options = {"model_input_names": ["input_ids", "attention_mask"], "model_max_length": MAX_TOKENS}
        return PreTrainedTokenizerFast(tokenizer_object=inner, **special, **options)
    kinds = {"bert": BertTokenizer, "electra": ElectraTokenizer, "distilbert": DistilBertTokenizer}
    return kinds[family](vocab=vocabulary, model_max_length=MAX_TOKENS)


def _word_pieces(*special: str) -> dict[str, int]:
    pieces = [*special, *WORDS, *_CHARACTERS, *(f"##{c}" for c in _CHARACTERS)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def _unigrams(*special: str) -> list[tuple[str, float]]:
    """Pieces with their log-probabilities: whole words are likelier than their characters."""
    words = dict.fromkeys(f"▁{word}" for word in WORDS)
    characters = dict.fromkeys(["▁", *_CHARACTERS, *".,!"])
    return [(piece, 0.0) for piece in special] + [(w, -2.0) for w in words] + [(c, -9.0) for c in characters]


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


def _text_pairs() -> GPT2Tokenizer:
    """Bytes as GPT-2 writes them, a newline as Ċ, and words merged from the left; no padding."""
    merges = list(
        dict.fromkeys(
            ("".join(("Ġ", *word)[:end]), word[end - 1]) for word in WORDS for end in range(1, len(word) + 1)
        )
    )
    pieces = ["<|endoftext|>", "Ċ", "Ġ", *_CHARACTERS, *".,!'-=", *("".join(m) for m in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return GPT2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _decoder_config(
    family: str, *, layers: int, hidden: int, heads: int, ffn: int, queries: int
) -> PreTrainedConfig:
    """A decoder without dropout and padding; `heads` have `queries` each where the family can share keys and values.

    Heads of Qwen3 and Gemma are twice as wide as the hidden size has it.
    """
    sizes: dict[str, Any] = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    sizes["max_position_embeddings"] = MAX_TOKENS
    match family:
        case "gpt2":
            dropout = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
            sizes |= {"n_inner": ffn, "initializer_range": 0.1} | dropout
        case "opt":
            sizes |= {"ffn_dim": ffn, "word_embed_proj_dim": hidden // 2, "dropout": 0.0, "init_std": 0.1}
        case _:
            shared = {"num_attention_heads": heads * queries, "num_key_value_heads": heads}
            wide = {"head_dim": 2 * hidden // (heads * queries)} if family in ("qwen3", "gemma") else {}
            sizes |= {"intermediate_size": ffn, "initializer_range": 0.1} | shared | wide
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    return CONFIG_MAPPING[family](vocab_size=len(tiny_tokenizer(family)), **sizes, **ids)


def tiny_config(
    family: str,
    *,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    ffn: int = 48,
    num_labels: int = 2,
    queries: int = 2,
) -> PreTrainedConfig:
    """A configuration without dropout for `MAX_TOKENS` tokens."""
    if family in DECODERS:
        return _decoder_config(family, layers=layers, hidden=hidden, heads=heads, ffn=ffn, queries=queries)
    kind = CONFIG_MAPPING[family]
    common: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer(family)),
        "num_labels": num_labels,
        "initializer_range": 0.1,
        "max_position_embeddings": MAX_TOKENS,
    }
    if family == "distilbert":
        sizes = {"n_layers": layers, "dim": hidden, "n_heads": heads, "hidden_dim": ffn}
        dropout = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
        return kind(**sizes, **dropout, **common)
    common |= {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
    }
    if family == "modernbert":
        special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
        ends = {"bos_token_id": 2, "eos_token_id": 3}
        return kind(local_attention=8, global_attn_every_n_layers=2, **special, **ends, **common)
    common |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    match family:
        case "electra":
            return kind(embedding_size=hidden // 2, **common)
        case "deberta-v2":  # relative positions as in the published version 3
            relative = {"relative_attention": True, "share_att_key": True, "pos_att_type": "p2c|c2p"}
            buckets = {"position_buckets": 6, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
            return kind(type_vocab_size=0, **relative, **buckets, **common)
        case "roberta" | "xlm-roberta" | "mpnet":  # <s>, <pad>, </s>: positions 0 and 1 are never used
            special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
            segments = {} if family == "mpnet" else {"type_vocab_size": 1}
            return kind(**common | special | segments | {"max_position_embeddings": MAX_TOKENS + 2})
    return kind(**common)


def tiny_model(
    family: str,
    task: str = "sequence-classification",
    *,
    seed: int = 0,
    num_labels: int = 2,
    variant: Mapping[str, Any] = MappingProxyType({}),
    **sizes: int,
) -> PreTrainedModel:
    """A random model with a task head, in eval mode; biases and norms are random too, so that they matter.

    A decoder has the head of its vocabulary, whatever the task.
    `sizes` are `layers`, `hidden`, `heads`, `ffn` and `queries`; `variant` are other fields of the configuration.
    """
    config = tiny_config(family, num_labels=1 if task == "regression" else num_labels, **sizes)
    for name, value in variant.items():
        setattr(config, name, value)
    if family in DECODERS:
        task = "causal-lm"
    else:
        config.problem_type = "regression" if task == "regression" else "single_label_classification"
    torch.manual_seed(seed)
    model = as_linears(getattr(transformers, AUTO_CLASSES[task]).from_config(config))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return model.eval()


def tiny_inputs(
    model: PreTrainedModel, *, rows: int = 3, tokens: int = 11, seed: int = 1
) -> dict[str, Tensor]:
    """A random batch (rows, tokens) with padding at the end of every row but the first."""
    generator = torch.Generator().manual_seed(seed)
    padding = model.config.pad_token_id or 0
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
