"""The mathematics of K-prune (Park, Choi, Kang: Accurate Retraining-free Pruning, ICLR 2024) on plain tensors."""
