"""Step 5, the way out: functions over HTTP and topics, wrapped by policies."""
