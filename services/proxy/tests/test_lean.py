"""What the proxy's process keeps out of its memory, in a process of its own: imports happen once."""

import hashlib
import subprocess
import sys


def test_the_process_maps_no_openssl_and_still_hashes() -> None:
    program = (
        "from weft_proxy.lean import trim_imports; trim_imports()\n"
        "import hashlib, weft_proxy.app\n"
        "print(*{line.split('/')[-1] for line in open('/proc/self/maps') if 'libssl' in line or 'libcrypto' in line})\n"
        "print(hashlib.sha256(b'weft').hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["", hashlib.sha256(b"weft").hexdigest()]
