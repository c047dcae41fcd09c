"""weft-proxy: read the environment, run, exit code. Nothing heavy is imported before the environment proved usable."""

import argparse
import gc
import os
import signal
import sys
from pathlib import Path

from weft_proxy import VERSION
from weft_proxy.lean import trim_imports

DESCRIPTION = "Data-plane proxy of the Weft service mesh. Settings come from the environment; see --help."
EXIT_BROKEN_INSTALL = 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="weft-proxy", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("--help", "-h", action="store_true", help="show this help with the table of variables")
    parser.add_argument("--version", action="store_true", help="show the versions of the Python side and of the engine")
    args = parser.parse_args(argv)
    if args.help:
        # Its reader may be `head`, which leaves early.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(parser.format_help() + "\n" + _variable_table())
        return 0
    if args.version:
        return _print_version()
    return _run()


def _variable_table() -> str:
    from weft_proxy.core.variables import VARIABLES

    rows = ["environment:"]
    rows += [f"  {v.full_name}\n      {v.help} ({v.expected}; default {_default(v.default)})" for v in VARIABLES]
    return "\n".join(rows)


def _default(value: object) -> str:
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(getattr(value, "value", value))


def _print_version() -> int:
    try:
        from weft_proxy.engine import VERSION as ENGINE_VERSION
    except ImportError as error:
        print(f"weft-proxy {VERSION}, engine missing: {error}", file=sys.stderr)
        return EXIT_BROKEN_INSTALL
    print(f"weft-proxy {VERSION}, engine {ENGINE_VERSION}")
    return 0 if ENGINE_VERSION == VERSION else EXIT_BROKEN_INSTALL


def _run() -> int:
    from weft_proxy.config import EXIT_CONFIG, ConfigError, read_settings, unknown_variables

    try:
        settings = read_settings(os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"weft-proxy: {mistake}", file=sys.stderr)
        print("weft-proxy: run weft-proxy --help for all variables", file=sys.stderr)
        return EXIT_CONFIG

    # gRPC must not install fork handlers or chatter on stderr: this process never forks, and its log has one sink.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    trim_imports()
    try:
        from weft_proxy import engine
    except ImportError as error:
        print(f"weft-proxy: the engine is not installed: {error}; install weft-engine {VERSION}", file=sys.stderr)
        return EXIT_BROKEN_INSTALL
    if engine.VERSION != VERSION:
        print(f"weft-proxy: engine {engine.VERSION} does not fit weft-proxy {VERSION}; install both", file=sys.stderr)
        return EXIT_BROKEN_INSTALL

    import asyncio

    from weft_proxy.app import EXIT_FAILED, App
    from weft_proxy.core.engine_settings import engine_settings
    from weft_proxy.core.log_filter import LogFilter
    from weft_proxy.key_files import load_or_create_key
    from weft_proxy.logs import LogSink
    from weft_proxy.ports import EngineFault
    from weft_proxy.trust import bundle_at_start

    sink = LogSink(LogFilter.parse(settings.log_filter), as_json=settings.log_json)
    log = sink.logger("weft_proxy")
    if unknown := unknown_variables(os.environ):
        log.warning("Unknown variables are ignored", names=",".join(unknown))
    cryptography = engine.NativeCryptography()
    build_info = {"version": f"v{VERSION}", "vendor": "weft", "profile": "release", "git_sha": "", "date": ""}
    try:
        pair = load_or_create_key(Path(settings.identity.directory), settings.identity.local_name, cryptography, log)
        anchors = bundle_at_start(settings.identity, log)
        native = engine.NativeEngine(engine_settings(settings, anchors, build_info))
    except (OSError, EngineFault) as error:
        log.error("Cannot start", why=str(error))
        return EXIT_FAILED

    # What was imported lives as long as the process: later collections need not look at it.
    gc.freeze()

    async def run() -> int:
        return await App(settings, native, cryptography, pair, anchors, sink).run()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
