"""ofevents: declare EventSources and Triggers in YAML, run them anywhere."""

__version__ = "0.1.0"
