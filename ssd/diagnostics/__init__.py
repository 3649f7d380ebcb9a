"""Dataset check: what a dataset holds, what is wrong with it, and how well it meets the anchors of the network."""
