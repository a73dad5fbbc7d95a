"""Learning the teachers' weights: the weight networks, the hard buffer and the hyper-gradient."""
