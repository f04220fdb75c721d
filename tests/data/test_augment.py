import numpy as np
import torch

from visionclip import keys, phantom, streams
from visionclip.data import images
from visionclip.data.augment import augment


def test_masks_move_with_their_image():
    batch, masks = torch.full((1, 3, 64, 64), 60, dtype=torch.uint8), torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    batch[..., 12:24, 40:52], masks[..., 3:6, 10:13] = 220, 255
    moved, followed = augment(batch, 1.0, torch.Generator().manual_seed(5), masks)
    bright = torch.nn.functional.avg_pool2d(moved[:, 1:2], 4)
    assert followed.shape == masks.shape
    assert bright[followed > 200].min() > 1.5 * bright[followed == 0].median()
    still, kept = augment(batch, 0, torch.Generator(), masks)
    assert torch.equal(still, batch.float())
    assert torch.equal(kept, masks.float())


def test_augment_is_a_function_of_its_generator_and_strength():
    eye = phantom.render({}, streams.rng(0, "augment"), 64).image
    batch = images.to_tensor(np.stack([eye] * 3))
    once, _ = augment(batch, 1.0, torch.Generator().manual_seed(3))
    again, _ = augment(batch, 1.0, torch.Generator().manual_seed(3))
    assert torch.equal(once, again)
    assert (once[0] - once[1]).abs().mean() > 1, "each image gets its own change"
    assert torch.equal(augment(batch, 0, torch.Generator())[0], batch.float())
    assert once.min() >= 0
    assert once.max() <= 255


def test_the_code_of_preprocessing_is_not_that_of_augmentation():
    assert "augment.py" not in [path.name for path in keys.sources(images)]
    assert keys.sources(keys.PACKAGE / "data/augment.py") == []
