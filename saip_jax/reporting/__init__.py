"""`saip report`: an HTML page about runs."""
