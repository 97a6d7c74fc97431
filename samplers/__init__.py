"""Which negatives: proposals, exclusion and the random numbers behind them, in numpy alone."""
