"""Spark and Beam jobs: from clicks and items to TFRecords, and the independent reading of what was written."""
