"""Resumable training: one loop, a step for each learner."""
