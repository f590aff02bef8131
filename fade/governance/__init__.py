"""Rules without I/O: requests, leases, promotion, audit verdict, release plan, append-only log."""
