"""The dataset of a backfill: records as rows, and rows in Parquet parts.

A part is an immutable object. Its rows are of one collection, sorted by (bucket, did, rkey). A row counts only if the
row of its account in Postgres names the delivery of the part.
"""
