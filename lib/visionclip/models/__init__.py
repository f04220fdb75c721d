"""Networks and losses: modules, save and load, nothing else."""
