"""`weft local`: the commands. `app` is imported lazily by the `weft` command; what each command needs, when it runs."""

from weft_local.cli.commands import app

__all__ = ["app"]
