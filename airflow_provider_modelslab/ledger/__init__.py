"""What was paid for: one small ledger for each result, and the decision what an attempt may do with it."""
