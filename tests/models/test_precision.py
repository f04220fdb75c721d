"""bf16 is taken where the device multiplies it faster."""

import torch

from visionclip.models import precision


def test_bf16_is_fast_where_the_processor_has_its_instructions(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert precision.bf16_is_fast(torch.device("cpu")) is has
    assert not precision.bf16_is_fast(torch.device("meta"))
