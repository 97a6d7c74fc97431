"""Trains two towers on a finished dataset: reads its records, evaluates on the full catalogue, exports SavedModels.

Imports schemas and TensorFlow; of the producer it knows nothing but the dataset on disk.
"""
