"""The mathematics of pruning without retraining, on plain tensors: K-prune, Fisher mask search, KCM."""
