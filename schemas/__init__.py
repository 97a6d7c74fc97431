"""What a record is: features, keys, wire format, framing and the manifest that names the shards."""
