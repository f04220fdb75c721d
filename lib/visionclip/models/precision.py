"""Which arithmetic is fast on a device."""

import torch


def bf16_is_fast(device: torch.device) -> bool:
    """True where bf16 multiplies faster than fp32: on GPUs that have it, and on processors with its instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
