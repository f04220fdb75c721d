"""What a model is worth: scores with intervals, zero-shot, statements, retrieval, fidelity, probe and controls."""
