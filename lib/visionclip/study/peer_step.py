"""A plain training step of open_clip's RN50, to be run by the Python of an environment that has open_clip.

``python peer_step.py BATCH REPETITIONS`` prints one JSON line: images a second in fp32 and under bf16 autocast, on one
thread. Nothing of this library is imported: the two environments can't be one (see the README).
"""

import json
import sys
import time


def main() -> None:
    """Measure both precisions in turn, so that a busy moment of the machine hits them alike."""
    import open_clip
    import torch

    torch.set_num_threads(1)
    batch, repetitions = map(int, sys.argv[1:3])
    model, _, _ = open_clip.create_model_and_transforms("RN50", device="cpu")
    loss, texts = open_clip.ClipLoss(), open_clip.get_tokenizer("RN50")(["a photograph of a retina"] * batch)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    images = torch.randn(batch, 3, 224, 224)
    best = {"fp32": float("inf"), "amp_bf16": float("inf")}
    for _ in range(repetitions + 1):
        for precision in best:
            started = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp_bf16"):
                value = loss(*model(images, texts))
            value.backward()
            optimizer.step()
            best[precision] = min(best[precision], time.perf_counter() - started)
    print(json.dumps({precision: batch / seconds for precision, seconds in best.items()}))


if __name__ == "__main__":
    main()
