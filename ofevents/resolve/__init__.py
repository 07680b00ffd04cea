"""Resources and references -> resolved specs; pure, the look-up is a port."""
