"""Eligibility traces: what is kept of them between chunks, one file for each kind."""
