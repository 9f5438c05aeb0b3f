"""The step of a job that cuts the vocabulary to the tokens of the dataset, and shows that nothing else changed."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pruning.data.rows import summarise
from pruning.delivery.load_check import TOLERANCE
from pruning.errors import ArtifactBroken, InvalidModel
from pruning.planning.families import FAMILIES
from pruning.report import VocabularyKept
from pruning.steps.job import Job
from pruning.steps.stages import logits, probe
from pruning.steps.trained import MODEL, PRUNE
from pruning.training.data import Data
from pruning.training.tasks import load_tokenizer
from pruning.vocabulary.embeddings import cut_embeddings, special_ids
from pruning.vocabulary.texts import texts, tokens
from pruning.vocabulary.tokenizer import CutTokenizer, cut_tokenizer


@dataclass(frozen=True)
class CutVocabulary:
    """What was kept: `job` goes on with the smaller tokenizer and its rows, `folder` has the smaller model."""

    job: Job
    folder: Path
    kept: VocabularyKept
    mask: Tensor
    """bool (tokens,): the ids of the dense model that are kept."""


def cut_vocabulary(job: Job, dense_dir: Path, dataset_dir: Path) -> CutVocabulary:
    """Keep the tokens that the dataset needs, in tokenizer and embeddings.

    Raises InvalidModel for a tokenizer that cannot be cut, or that then reads a text of the dataset in another way, and
    ArtifactBroken when the model answers otherwise.
    """
    if not job.steps.done(PRUNE):
        with job.progress.step(PRUNE, "pruning"):
            _cut(job, dense_dir, dataset_dir)
    folder, result = job.steps.path(PRUNE) / MODEL, job.steps.load(PRUNE)
    new_ids = _new_ids(result["kept"], result["of"])
    config = job.load(folder).config
    after = replace(
        job,
        tokenizer=load_tokenizer(folder, config),
        data=_renumbered(job.data, new_ids, config.pad_token_id or 0),
        found=result["ratio"],
    )
    kept = VocabularyKept(tokens=len(result["kept"]), of_tokens=result["of"], texts=result["texts"])
    return CutVocabulary(after, folder, kept, torch.from_numpy(new_ids >= 0))


def check_answers(dense: PreTrainedModel, before: Job, small: PreTrainedModel, after: Job) -> float:
    """The largest difference of a logit between both models; raises ArtifactBroken when it is more than rounding."""
    expected = logits(dense, probe(before))
    difference = float((expected - logits(small, probe(after))).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ArtifactBroken(
            f"The smaller vocabulary changes the answers: logits differ by {difference:.3g}."
        )
    return difference


def _cut(job: Job, dense_dir: Path, dataset_dir: Path) -> None:
    model = job.load(dense_dir)
    total, parameters = model.config.vocab_size, model.num_parameters()
    scratch = job.scratch(PRUNE)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    cut, count = _cut_tokenizer(job, model, dataset_dir, scratch)
    cut_embeddings(model, cut.kept)

    def fill(folder: Path) -> None:
        model.save_pretrained(folder / MODEL)
        cut.tokenizer.save_pretrained(folder / MODEL)

    result = {
        "kept": list(cut.kept),
        "of": total,
        "texts": count,
        "ratio": 1 - model.num_parameters() / parameters,
    }
    job.steps.save(PRUNE, result, fill)
    shutil.rmtree(scratch, ignore_errors=True)


def _cut_tokenizer(
    job: Job, model: PreTrainedModel, dataset_dir: Path, scratch: Path
) -> tuple[CutTokenizer, int]:
    """The smaller tokenizer, and how many texts it was seen to read as before."""
    summary = summarise(dataset_dir, job.spec.columns, beat=job.progress.check)
    seen = set(special_ids(model).values())
    for rows in (job.data.train, job.data.evaluation):
        seen.update(np.unique(rows.tokens).tolist())
    for ids, _ in tokens(job.tokenizer, texts(dataset_dir, summary), job.progress.check):
        seen.update(ids)
    reserved = FAMILIES[model.config.model_type].reserved_positions
    # Where positions count from the padding token's id, that id must stay what it is.
    first = model.config.pad_token_id + 1 if reserved else 0
    cut = cut_tokenizer(job.tokenizer, sorted(seen), first, scratch)
    if missing := seen - set(cut.kept):
        raise InvalidModel(
            f"config.json or the dataset's rows have ids that are no tokens: {sorted(missing)[:5]}.",
            param="/model",
            remedy="Send the tokenizer that belongs to the model.",
        )
    return cut, _check_texts(job, cut.tokenizer, dataset_dir)


def _check_texts(job: Job, smaller: PreTrainedTokenizerBase, dataset_dir: Path) -> int:
    """How many texts the dataset has; raises InvalidModel when one of them becomes other tokens than before."""
    summary = summarise(dataset_dir, job.spec.columns, beat=job.progress.check)
    before, after = (
        tokens(each, texts(dataset_dir, summary), job.progress.check) for each in (job.tokenizer, smaller)
    )
    count = 0
    for (_, expected), (_, found) in zip(before, after, strict=True):
        count += 1
        if expected != found:
            raise InvalidModel(
                f"Text {count} of the dataset has a word that becomes other tokens in a smaller vocabulary.",
                param="/granularity",
                remedy="Leave that text out, or use another granularity.",
            )
    return count


def _new_ids(kept: list[int], total: int) -> NDArray[np.int64]:
    """The new id of every old one, -1 for those that are gone, (total,)."""
    new = np.full(total, -1)
    new[kept] = np.arange(len(kept))
    return new


def _renumbered(data: Data, new_ids: NDArray[np.int64], padding: int) -> Data:
    train, evaluation = (
        replace(rows, tokens=new_ids[rows.tokens].astype(rows.tokens.dtype), pad_token=padding)
        for rows in (data.train, data.evaluation)
    )
    return replace(data, train=train, evaluation=evaluation)
