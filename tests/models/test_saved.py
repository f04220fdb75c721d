import pytest
import torch

from visionclip import runs
from visionclip.models import saved, visionclip
from visionclip.text.tokenizer import train_tokenizer


def test_a_checkpoint_is_the_folder_of_a_finished_stage(tmp_path):
    numbers = {"headline": [], "languages": ["zh"], "shares": {"phantom": 1.0}}
    runs.Stage("03-pretrain", tmp_path, {}).finish(numbers)
    found = saved.find(tmp_path)
    assert (found.folder, found.inputs) == (tmp_path / "model", [tmp_path])
    assert (found.languages, found.shares) == (["zh"], {"phantom": 1.0})


def test_a_checkpoint_is_any_saved_model(tmp_path):
    tokenizer = train_tokenizer(["glaucoma"], tmp_path / "words")
    torch.manual_seed(0)
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(tokenizer)))
    visionclip.save(network, tokenizer, 32, tmp_path / "published")
    found = saved.find(tmp_path / "published")
    assert (found.folder, found.inputs, found.languages, found.shares) == (tmp_path / "published", [], [], {})
    assert visionclip.load(found.folder)[2].size == 32


def test_a_stage_that_did_not_finish_and_a_folder_of_nothing_are_refused_in_one_line(tmp_path):
    (tmp_path / "stopped/model").mkdir(parents=True)
    for name in ("stopped", "nowhere"):
        with pytest.raises(FileNotFoundError, match=rf"{name}: no finished 03-pretrain there; run [^\n]*$"):
            saved.find(tmp_path / name)


def test_a_model_that_is_read_otherwise_is_another_one():
    torch.manual_seed(0)
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, 50))
    before = saved.key(network)
    assert saved.key(network) == before
    network.config.scales = [0.5, 1.0]
    read_at_two_scales = saved.key(network)
    assert read_at_two_scales != before
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert saved.key(network) not in (before, read_at_two_scales)
