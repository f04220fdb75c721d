"""Images from disk to tensor: reading, preparing, sets with labels, shards, folders and published archives."""
