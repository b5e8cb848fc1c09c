"""The record of paid jobs: one small ledger for each result, and the decision what an attempt may do with it."""
