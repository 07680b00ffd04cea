"""House rules as tests: sizes, names, generated text, registries."""
