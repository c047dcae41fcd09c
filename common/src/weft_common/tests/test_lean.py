"""What a process that imports leanly has loaded, and that it still refuses whom it cannot verify.

Each case is a process of its own: imports happen once.
"""

from __future__ import annotations

import subprocess
import sys


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_structlog_works_without_loading_rich() -> None:
    printed = _run(
        "import sys; from weft_common.log import configure_logging, get_logger\n"
        "configure_logging('info', 'console'); get_logger('a').info('ready'); print('rich' in sys.modules)"
    )
    assert "ready" in printed.splitlines()[0]
    assert printed.splitlines()[1] == "False"


def test_hidden_packages_can_be_imported_afterwards() -> None:
    printed = _run(
        "from weft_common.lean import without\n"
        "with without('json.tool', 'html'):\n"
        "    try:\n        import html\n"
        "    except ModuleNotFoundError:\n        print('hidden')\n"
        "import html; print(html.__name__)"
    )
    assert printed.split() == ["hidden", "html"]


def test_packages_loaded_before_stay() -> None:
    printed = _run(
        "import html\nfrom weft_common.lean import without\n"
        "with without('html'):\n    import html as again\n"
        "print(again is html)"
    )
    assert printed == "True"


def test_other_contexts_still_trust_the_system() -> None:
    program = (
        "import ssl; before = ssl.create_default_context().cert_store_stats()\n"
        "from weft_common.lean import lean_imports\n"
        "with lean_imports():\n    import aiohttp\n"
        "print(ssl.create_default_context().cert_store_stats() == before)"
    )
    assert _run(program) == "True"


def test_tls_without_a_context_of_its_own_trusts_nobody() -> None:
    program = (
        "from weft_common.lean import lean_imports\n"
        "with lean_imports():\n    from aiohttp import connector\n"
        "context = connector._SSL_CONTEXT_VERIFIED\n"
        "print(context.verify_mode.name, context.check_hostname, context.cert_store_stats()['x509_ca'])"
    )
    assert _run(program) == "CERT_REQUIRED True 0"
