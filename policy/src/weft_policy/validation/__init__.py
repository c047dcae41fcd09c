"""What policy objects may not say: one answer for the webhook, for `weft local`, and for `weft validate`.

Schemas refuse most mistakes of shape before; this says what they cannot, and holds without them too.
"""

from weft_policy.validation.examine import Verdict, examine
from weft_policy.validation.findings import Finding

__all__ = ["Finding", "Verdict", "examine"]
