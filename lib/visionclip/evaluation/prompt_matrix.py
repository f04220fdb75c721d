"""Every sentence put to every task: does the right one separate its classes best, of all diseases and findings?

What is put is the log-odds that an image goes with the sentences which say that something is there rather than with
those which deny it. The rank of the right ones among all is a control that a model can fail: prompts drawn at random in
the classes' place score 0.5 on average, whatever the model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from visionclip import conditions
from visionclip.data.tasks import Dataset, Task
from visionclip.evaluation import scoring, zero_shot
from visionclip.evaluation.encoding import encode_texts
from visionclip.evaluation.statements import ALIKE
from visionclip.models.visionclip import VisionCLIP
from visionclip.text.grammar import PLAIN, Style

# What may be there or not: each disease, and each lesion.
SENTENCES: tuple[str, ...] = (*conditions.DISEASES, *(key for key, (of, _) in conditions.ABOUT.items() if key == of))
COUNT = 6  # wordings of a sentence in each language


def pairs(
    network: VisionCLIP, tokenizer, languages: Sequence[str], style: Style = PLAIN, keys: Sequence[str] = SENTENCES
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Unit-length 1×P of the sentences that deny each of ``keys``, and A×P of those that state each of its values.

    Each is the mean over ``COUNT`` wordings a language. Words that no training caption has are warned of, in one line.
    """
    facts = [{key: value} for key in keys for value in range(conditions.FACTS[key].highest + 1)]
    worded = [zero_shot.all_prompts(one, languages, COUNT, style) for one in facts]
    embeds = encode_texts(network, tokenizer, [text for texts in worded for text in texts])
    means = [rows.mean(0) for rows in embeds.split([len(texts) for texts in worded])]
    of_values = functional.normalize(torch.stack(means), dim=1).split(
        [conditions.FACTS[key].highest + 1 for key in keys]
    )
    return {key: (rows[:1], rows[1:]) for key, rows in zip(keys, of_values, strict=True)}


def right(task: Task) -> tuple[int, tuple[str, ...]]:
    """Which class of a two-class task shows something, and which of ``SENTENCES`` say so; none does of readability.

    It is the second class, or the first where the second shows nothing. Myopia of either kind is right for the other,
    as the two are drawn alike.
    """
    for positive in (1, 0):
        stated = {key for facts in task.classes[positive].facts for key, value in facts.items() if value > 0}
        named = {conditions.ABOUT[key][0] if key in conditions.ABOUT else key for key in stated}
        named |= {one for alike in ALIKE.values() if named & {*alike} for one in alike}
        if keys := tuple(key for key in SENTENCES if key in named):
            return positive, keys
    return 1, ()


def evaluate(
    dataset: Dataset,
    image_embeds: torch.Tensor,
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    scale: float,
) -> list[dict]:
    """For each two-class task that is ``scorable`` the ``auc`` (0 to 1) of each of ``pairs``, of image embeddings N×P.

    ``right`` are the keys of what its positive class shows, ``rank`` (1 is best) that of the best of them among all
    (``of``), equal ones sharing the better rank; it is None where none is right.
    """
    evidence = {key: zero_shot.class_logits(image_embeds, pair, scale) @ [-1.0, 1.0] for key, pair in pairs.items()}
    rows = []
    for task in scoring.two_class_tasks(dataset):
        positive, keys = right(task)
        labelled = task.targets >= 0
        shows = task.targets[labelled] == positive
        auc = {key: float(roc_auc_score(shows, of_all[labelled])) for key, of_all in evidence.items()}
        best = max((auc[key] for key in keys if key in auc), default=None)
        rank = None if best is None else 1 + sum(value > best for value in auc.values())
        row = {"dataset": dataset.name, "task": task.name, "split": dataset.split, "right": keys, "auc": auc}
        rows.append({**row, "rank": rank, "of": len(auc)})
    return rows


def grid(rows: Sequence[Mapping]) -> np.ndarray:
    """The AUCs of ``evaluate``'s rows as float T×S, a column a sentence."""
    return np.array([list(row["auc"].values()) for row in rows]).reshape(len(rows), -1)
