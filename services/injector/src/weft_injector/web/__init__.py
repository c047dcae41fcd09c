"""The HTTPS side: admission reviews in, answers out, under a certificate that may change at any time."""
