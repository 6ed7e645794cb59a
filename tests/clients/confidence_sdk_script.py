"""Runs in the SDK's own environment: evaluates flags through the unmodified Confidence SDK, prints JSON.

Arguments: resolve URL, client secret. Standard input: a list of [method, flag key, default, context].
"""

import json
import sys

from confidence.confidence import Confidence

url, secret = sys.argv[1:]
confidence = Confidence(secret, custom_resolve_base_url=url)
results = []
for method, key, default, context in json.load(sys.stdin):
    details = getattr(confidence.with_context(context), f"resolve_{method}_details")(key, default)
    results.append(
        {
            "value": details.value,
            "variant": details.variant,
            "reason": getattr(details.reason, "value", details.reason),
            "error": getattr(details.error_code, "value", details.error_code),
        }
    )
print(json.dumps(results))
