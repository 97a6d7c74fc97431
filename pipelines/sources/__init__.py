"""Clicks to work with: real ones that can be had by pip, and synthetic ones whose truth is known.

Each source writes clicks.parquet, items.parquet and users.parquet with pyarrow alone, so that trying the project needs
no Spark until the job itself. Nothing of the data is part of this project: see README.md for whose it is.
"""
