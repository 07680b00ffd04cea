"""The suites that judge a Source, Bus or Subscriber; shipped, free of pytest."""
