"""`python -m weft_local`: the same commands as `weft local`."""

from weft_local.cli import app

if __name__ == "__main__":
    app(prog_name="weft local")
