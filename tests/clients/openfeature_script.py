"""Runs in the providers' own environment: evaluates flags through OpenFeature, prints JSON.

Arguments: provider (ofrep or flagship), the Worker's URL, client secret. Standard input: a list of [type, flag key,
default, targeting key or null, attributes].
"""

import json
import sys

from flagship import FlagshipServerProvider
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

provider, url, secret = sys.argv[1:]
if provider == "ofrep":
    api.set_provider(OFREPProvider(url, headers_factory=lambda: {"Authorization": f"Bearer {secret}"}))
else:
    api.set_provider(FlagshipServerProvider(app_id="flags", account_id="a", base_url=url, auth_token=secret))
client = api.get_client()
results = []
for kind, key, default, targeting_key, attributes in json.load(sys.stdin):
    context = EvaluationContext(targeting_key, attributes)
    details = getattr(client, f"get_{kind}_details")(key, default, context)
    results.append(
        {
            "value": details.value,
            "variant": details.variant,
            "reason": getattr(details.reason, "value", details.reason),
            "error": getattr(details.error_code, "value", details.error_code),
        }
    )
print(json.dumps(results))
