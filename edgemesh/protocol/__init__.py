"""Wire contract: topics, messages, tensor codecs, versions, limits (pure)."""
