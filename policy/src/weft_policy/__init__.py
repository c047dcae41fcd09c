"""What cluster objects mean to the mesh: the library under the destination service, the webhook, and the command line.

No I/O, no clock, no environment: every function can be called with literals.
"""
