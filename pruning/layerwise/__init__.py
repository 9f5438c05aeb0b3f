"""Pruning without training, one layer after the other, by what each linear reads on a few rows."""
