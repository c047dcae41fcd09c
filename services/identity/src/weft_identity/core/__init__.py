"""What a certificate authority decides: names, requests, issuers and leaves. No I/O, no clock, no cluster."""
