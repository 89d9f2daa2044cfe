"""What an engineer writes by hand in an afternoon, done well: one process, uvloop, one run a request."""
