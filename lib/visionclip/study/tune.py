"""Search for the ranges in which phantoms vary, by what a model that learns from them reaches on photographs.

A trial draws phantoms within its own ``phantom.Ranges``, lets a copy of a trained model go on learning from them for a
few updates, and is worth what the copy then reaches on its *worst* set: the mean AUC of the set's tasks, mean over
seeds. The first trial draws as usual. All sets are those that one may choose by (``scoring.load_development``).

Trials are proposed by a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Optuna) and kept in a journal:
a search that is stopped goes on, one with another model, code, sets or budget begins anew. A gain below
``choices.MARGIN`` of one seed is noise, and the best of many trials flatters itself: train with the winner, under seeds
of its own, before it is believed. To do so, write its ranges into the defaults of ``phantom.Ranges``.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from visionclip import keys, phantom, runs, streams
from visionclip.data import phantoms
from visionclip.data.folders import external_folder
from visionclip.data.tasks import Dataset
from visionclip.evaluation import scoring
from visionclip.models import visionclip
from visionclip.stages import pretrain, transfer
from visionclip.training import contrastive

LANGUAGES, CAPTIONS = ("zh", "en"), 6
# The ends between which each range is searched.
SPACE: dict[str, tuple[float, float]] = {
    **dict.fromkeys((one.name for one in fields(phantom.Ranges)), (0.0, 0.7)),
    "saturation": (0.2, 1.0),
    "noise": (0.004, 0.03),
    "exposure": (0.1, 0.5),
}


@dataclass(frozen=True)
class Budget:
    """What a trial may cost: phantoms drawn, updates of 32 images at ``size`` pixels, and trainings, one a seed."""

    phantoms: int
    updates: int
    size: int
    seeds: tuple[int, ...]


def evaluate(
    model: Path, datasets: Sequence[Dataset], budget: Budget, ranges: phantom.Ranges
) -> dict[str, list[float]]:
    """What the saved model reaches on each set after learning within these ranges: mean AUC of its tasks, by seed."""
    ranked = []
    for seed in budget.seeds:
        network, tokenizer, _ = visionclip.load(model)
        network.train()
        eyes = transfer.draw(transfer.ARMS[transfer.REFERENCE], budget.phantoms, budget.size, seed, ranges=ranges)
        pairs = pretrain.with_captions(eyes, LANGUAGES, CAPTIONS, seed)
        contrastive.train(network, tokenizer, pairs, _settings(budget, seed), None)
        ranked.append(transfer.rank(network, tokenizer, datasets, LANGUAGES))
    return {name: aucs.tolist() for name, aucs in transfer.by_set({"": ranked}, datasets)[""].items()}


def _settings(budget: Budget, seed: int) -> contrastive.Settings:
    return contrastive.Settings(
        updates=budget.updates,
        batch_size=32,
        learning_rate=1e-3,
        text_warmup=0,
        ema=0.98,
        condition_weight=transfer.Arm.condition_weight,
        map_weight=transfer.Arm.map_weight,
        precision="auto",
        seed=seed,
    )


def objective(model: Path, datasets: Sequence[Dataset], budget: Budget, trial: Trial) -> float:
    """Of the ranges that the trial proposes: the score on the worst set; all scores are kept with the trial."""
    ranges = phantom.Ranges(**{name: trial.suggest_float(name, *ends) for name, ends in SPACE.items()})
    scores = evaluate(model, datasets, budget, ranges)
    trial.set_user_attr("scores", scores)
    return min(float(np.mean(own)) for own in scores.values())


def search(
    folder: Path, model: Path, datasets: Sequence[Dataset], budget: Budget, trials: int, hours: float
) -> optuna.Study:
    """Go on with the search below ``folder`` until it has had ``trials`` or ``hours`` are over, keeping its log there.

    ``trials.csv`` holds every trial, ``winner.json`` the best one beside the usual ranges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with runs.lock(folder / ".lock"):
        study = _study(folder, model, datasets, budget)
        left = trials - len(study.get_trials(states=(TrialState.COMPLETE,)))
        work = partial(objective, model, datasets, budget)
        if left > 0:
            study.optimize(work, left, hours * 3600, callbacks=[lambda study, _: _log(folder, study)])
    return study


def _study(folder: Path, model: Path, datasets: Sequence[Dataset], budget: Budget) -> optuna.Study:
    """The study of this journal that has the same model, code, sets and budget; its broken trials are failed."""
    tasks = {name: (task.classes, task.targets.tolist()) for name, (_, task) in transfer.tasks_of(datasets).items()}
    sets = [keys.arrays(*(one.images.pixels for one in datasets)), tasks]
    key = keys.digest(
        [
            [keys.file(model / file) for file in ("model.safetensors", "config.json")],
            sets,
            asdict(budget),
            SPACE,
            keys.code(__file__),
        ]
    )
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(storage=storage, study_name=key, load_if_exists=True, direction="maximize")
    for broken in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(broken.number, state=TrialState.FAIL)
    seed = int(streams.rng(0, "trials of a search", len(study.get_trials())).integers(2**31))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)
    if _usual(study) is None:
        study.enqueue_trial(asdict(phantom.USUAL), skip_if_exists=False)
    return study


def _usual(study: optuna.Study) -> FrozenTrial | None:
    """The finished trial that drew as usual, if there is one."""
    return next((one for one in _finished(study) if one.params == asdict(phantom.USUAL)), None)


def table(study: optuna.Study) -> pandas.DataFrame:
    """The finished trials, best first: number, score of the worst set, which that is, score of each set, ranges."""
    return pandas.DataFrame([_row(one) for one in _finished(study)])


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda one: -_value(one))


def _value(trial: FrozenTrial) -> float:
    return float(trial.value or 0.0)


def _row(trial: FrozenTrial) -> dict[str, object]:
    means = {name: round(float(np.mean(own)), 4) for name, own in trial.user_attrs["scores"].items()}
    worst = {"trial": trial.number, "worst": round(_value(trial), 4), "worst set": min(means, key=means.__getitem__)}
    return worst | means | {name: round(value, 4) for name, value in trial.params.items()}


def _log(folder: Path, study: optuna.Study) -> None:
    finished = _finished(study)
    if not finished:  # the first one failed: there is nothing to keep
        return
    with runs.atomic(folder / "trials.csv") as path:
        table(study).to_csv(path, index=False)
    content = {"winner": _summary(finished[0]), "usual": _summary(_usual(study))}
    runs.write_json(folder / "winner.json", content)


def _summary(trial: FrozenTrial | None) -> Mapping[str, object] | None:
    if trial is None:
        return None
    return {"trial": trial.number, "worst": trial.value, **trial.user_attrs, "ranges": trial.params}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the search and print its best trials."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.study.tune", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="saved model that each trial goes on from")
    parser.add_argument("--external", default="data/external", help="folder with one folder a dataset")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"), help="folder of the journal and the log")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--phantoms", type=int, default=2000)
    parser.add_argument("--updates", type=int, default=250)
    parser.add_argument("--size", type=int, default=192, help="pixels, of phantoms and photographs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a training of each trial for each")
    given = parser.parse_args(arguments)
    if not (given.model / "model.safetensors").is_file():
        parser.error(f"--model: {given.model} holds no saved model; give the folder `model` of a 03-pretrain run")
    if given.size % phantoms.STRIDE:
        parser.error(f"--size: {given.size} is no multiple of {phantoms.STRIDE}, the pixels of a cell of a finding map")
    datasets = scoring.load_development(external_folder(given.external), given.size)
    if not transfer.tasks_of(datasets):
        parser.error(f"--external: no set to choose by below {given.external}; docs/own-data.md says how to add one")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    budget = Budget(given.phantoms, given.updates, given.size, tuple(given.seeds))
    study = search(given.out, given.model, datasets, budget, given.trials, given.hours)
    print(table(study).head(5).to_string(index=False), file=sys.stdout)


if __name__ == "__main__":
    main()
