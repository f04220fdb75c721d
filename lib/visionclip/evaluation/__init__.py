"""What a model is worth: scores with intervals, zero-shot, retrieval, classification, fidelity, probe and controls."""
