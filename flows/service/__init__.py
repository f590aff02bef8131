"""What runs beside single flows: scheduler, requests, status, set-up, doctor."""
