"""What a model is worth: scores with intervals, zero-shot, retrieval, fidelity, probe and controls."""
