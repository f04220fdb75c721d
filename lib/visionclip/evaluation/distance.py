"""How far drawn eyes are from photographs, in one number: can a classifier tell which is which?

A logistic regression, trained on some of both and asked of the others (cross-validation that never parts the images of
a patient), gets simple image statistics or the features of a model. Its AUC is 0.5 where nothing tells the two apart
and 1 where everything does (a classifier two-sample test: Lopez-Paz & Oquab, ICLR 2017). Photographs of one camera are
told from those of another as well: what two real sets reach (one in the place of the phantoms) is the scale to read it
on.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas
from sklearn.decomposition import PCA

from visionclip import streams
from visionclip.data import field_of_view
from visionclip.data.labelled import LabelledImages
from visionclip.data.tasks import ClassOf, Dataset, Task
from visionclip.evaluation import label_efficiency, metrics, probe, tables
from visionclip.evaluation.controls import colour_statistics
from visionclip.evaluation.encoding import encode_images
from visionclip.evaluation.intervals import Interval
from visionclip.models.visionclip import VisionCLIP

COLOURS = ("red", "green", "blue")
ENDS = {"dark end": 5, "bright end": 95}  # percentiles
SCALES = {"fine": 1 / 256, "middle": 1 / 64, "coarse": 1 / 16}  # of the side: width of the surroundings of a pixel
STATISTICS = (
    *(f"{colour} {of}" for of in ("mean", "spread", "skew", *ENDS) for colour in COLOURS),
    "saturation",
    *(f"{scale} contrast" for scale in SCALES),
    "gradient",
    "field share",
)
BY_STATISTICS, BY_FEATURES = "image statistics", "features of the model"
PHANTOMS = "phantoms"
CLASSES = [ClassOf("phantom", [{}]), ClassOf("photograph", [{}])]


def two_of_a_kind(
    originals: LabelledImages, held_out: LabelledImages, photographs: bool, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Two sets of which no image is in both, for distances between sets of one kind: what the generator learnt from and
    phantoms held out; of ``photographs``, all of which it learnt from, two halves by lot, in which no patient and no
    near-duplicate is in both."""
    if not photographs:
        return originals, held_out
    groups = label_efficiency.groups(originals)
    halves: tuple[list[int], list[int]] = ([], [])
    for group in streams.rng(seed, "halves of the photographs").permutation(np.unique(groups)):
        min(halves, key=len).extend(np.flatnonzero(groups == group).tolist())
    one, other = map(originals.take, halves)
    return one, other


def statistics(pixels: np.ndarray) -> pandas.DataFrame:
    """The 21 ``STATISTICS``, a column each, of prepared uint8 N×S×S×3, a row each, inside the field.

    Mean, spread and skew (``controls.colour_statistics``) and the ``ENDS`` of each channel (0 to 255); mean
    ``saturation`` of the HSV model (0 to 1); at each of ``SCALES`` the contrast, the spread of green about its
    Gaussian mean; ``gradient``, the root mean square of green's Sobel gradient (0 to 255 a pixel); and the field as a
    share of the image (0 to 1).
    """
    rows = np.array([_beside_colour(image) for image in pixels])
    return pandas.DataFrame(np.hstack([colour_statistics(pixels), rows]), columns=list(STATISTICS))


def _beside_colour(image: np.ndarray) -> list[float]:
    field = field_of_view.visible(image)
    inside = cv2.erode(field.astype(np.uint8), np.ones((7, 7))) > 0  # the rim is steeper than all else
    inside = inside if inside.any() else np.ones_like(inside)
    colours, green = image[inside].astype(float), image[..., 1].astype(np.float32)
    saturation = (1 - colours.min(1) / np.maximum(colours.max(1), 1)).mean()
    contrasts = [_about_surroundings(green, inside, scale * len(image))[inside].std() for scale in SCALES.values()]
    across, down = (cv2.Sobel(green, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    gradient = np.sqrt((across**2 + down**2)[inside].mean())
    return [*np.percentile(colours, [*ENDS.values()], axis=0).flat, saturation, *contrasts, gradient, field.mean()]


def _about_surroundings(green: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """What is left of float32 S×S without its Gaussian mean, in which what is outside of the field has no part."""
    weight = inside.astype(np.float32)
    mean, share = (cv2.GaussianBlur(one, (0, 0), width) for one in (green * weight, weight))
    return green - mean / np.maximum(share, 1e-6)


def separability(
    drawn: np.ndarray, real: np.ndarray, groups: Sequence[str], seed: int, resamples: int = 1000
) -> Interval:
    """AUC at which features float N×D of phantoms and M×D of photographs are told apart, with its interval
    (``intervals.mean_auc``); undefined where either has fewer groups than the cross-validation has folds.

    The interval is that of the regressions as they were fitted, and so a little narrow: of equal distributions about
    five of six hold 0.5.

    ``groups`` are those of the N phantoms, then of the M photographs: a group is never on both sides of a fold, and
    widens the interval where its images go together.
    """
    task = Task("drawn or photographed", False, CLASSES, np.repeat([0, 1], [len(drawn), len(real)]))
    logits = probe.out_of_fold(np.concatenate([drawn, real]), task, groups, seed)
    if logits is None:
        return Interval(None)
    rng = streams.rng(seed, "bootstrap of the distance")
    return metrics.scores_with_intervals(task.targets, logits, False, rng, resamples, groups)["auc"]


def evaluate(
    drawn: LabelledImages,
    datasets: Sequence[Dataset],
    seed: int,
    resamples: int = 1000,
    network: VisionCLIP | None = None,
    name: str = PHANTOMS,
) -> list[dict]:
    """One row a set and kind of features, those of the model only if there is a ``network``: the ``auc`` of phantoms
    (or of photographs in their place, which ``name`` names) against its photographs, and how many of both.

    The phantoms are prepared as the photographs are, at their size; the network was not trained on them. Healthy twins
    (the same eye twice) are to be left out, or be in one group.

    Raises:
        ValueError: sizes differ.
    """
    rows, own = [], _features(drawn.pixels, network)
    for dataset in datasets:
        if dataset.images.pixels.shape[1:] != drawn.pixels.shape[1:]:
            shapes = [images.pixels.shape[1] for images in (drawn, dataset.images)]
            raise ValueError(f"{dataset.name}: phantoms of {shapes[0]} px, photographs of {shapes[1]}; give one size")
        groups = [f"phantom {one}" for one in drawn.members] + [f"photograph {one}" for one in dataset.images.members]
        for kind, features in _features(dataset.images.pixels, network).items():
            auc = separability(own[kind], features, groups, seed, resamples)
            counts = {"n": len(drawn), "photographs": len(dataset)}
            rows.append({"first": name, "dataset": dataset.name, "features": kind, **counts, "auc": auc})
    return rows


def _features(pixels: np.ndarray, network: VisionCLIP | None) -> dict[str, np.ndarray]:
    """Features N×D by their kind."""
    found = {BY_STATISTICS: statistics(pixels).to_numpy()}
    return found | ({} if network is None else {BY_FEATURES: encode_images(network, pixels, projected=False).numpy()})


def projected(sets: Mapping[str, np.ndarray], network: VisionCLIP, seed: int, most: int = 150) -> pandas.DataFrame:
    """Where the model's embeddings lie: ``set`` and the first two principal components of all of them, ``first`` and
    ``second``, a row for each of at most ``most`` images of each set (uint8 N×S×S×3), which are drawn by lot."""
    rng = streams.rng(seed, "images of the projection")
    shown = {name: pixels[np.sort(rng.permutation(len(pixels))[:most])] for name, pixels in sets.items()}
    embeds = np.concatenate([encode_images(network, pixels).numpy() for pixels in shown.values()])
    first, second = PCA(2, svd_solver="full").fit_transform(embeds).T
    names = np.repeat([*shown], [len(pixels) for pixels in shown.values()])
    return pandas.DataFrame({"set": names, "first": first, "second": second})


def table(rows: Sequence[Mapping]) -> pandas.DataFrame:
    """``evaluate``'s rows as text."""
    texts = {"one": "{first} (n = {n})", "other": "{dataset} (n = {photographs})", "AUC": "{auc}"}
    return tables.table(rows, ("one", "other", "features", "AUC"), **texts)
