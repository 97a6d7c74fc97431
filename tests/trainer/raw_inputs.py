"""Inputs of the exported towers put together from the crafted world's own values, not from a dataset."""

import numpy as np

GENRES = [b"action", "comédie".encode(), b"dra\\ma", b"film\nnoir", b"western"]


def padded(lists, width, nothing=b""):
    return np.array([row + [nothing] * (width - len(row)) for row in lists], object)


def raw_items(truth, indices):
    """Inputs of the item tower from the world's own values, not from the dataset."""
    items = [truth.items[i] for i in indices]
    return {
        "item_id": np.array([f"i{i}".encode() for i in indices], object),
        "genres": padded([[GENRES[g - 1] for g in item["genres"]] for item in items], 3),
        "content": np.array([item["content"] for item in items], np.float32),
        "price": np.array([item["price"] for item in items], np.float32),
    }


def raw_users(truth, clicks, length):
    histories = [raw_items(truth, click.history) if click.history else None for click in clicks]
    users = [truth.users[click.user] for click in clicks]

    def column(name, shape, dtype, nothing):
        out = np.full((len(clicks), length, *shape), nothing, dtype)
        for row, history in enumerate(histories):
            if history is not None:
                values = history[name]
                out[row, : len(values)] = values
        return out

    return {
        "user_id": np.array([f"u{click.user}".encode() for click in clicks], object),
        "age": np.array([[np.nan, 3, 18, 49.5, 50][user["age"]] for user in users], np.float64),
        "interests": padded([[GENRES[i - 1] if i else b"?" for i in user["interests"]] for user in users], 2),
        "mood": np.array([user["mood"] for user in users], np.float32),
        "history_item_id": column("item_id", (), object, b""),
        "history_genres": column("genres", (3,), object, b""),
        "history_content": column("content", (3,), np.float32, 0),
        "history_lengths": np.array([len(click.history) for click in clicks], np.int64),
    }


def embed(tower, inputs):
    import tensorflow as tf

    return tower(**{name: tf.constant(values) for name, values in inputs.items()})["embedding"].numpy()
