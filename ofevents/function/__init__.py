"""The function framework: write a function, get its HTTP server or its topic consumer."""
