"""`ofevents run`: all of a folder's resources in one process, on an embedded bus."""
