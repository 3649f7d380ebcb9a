"""Symbol in, Symbol out: fusing, folding, mixed precision, pruning."""
