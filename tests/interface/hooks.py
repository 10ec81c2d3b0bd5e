"""What schemathesis needs to know of this interface: which environment exists, what must not be asked, and that answers can be lines.

`test_described.py` runs schemathesis with it, and names the environment in the variable `TARGET`.
"""
import copy
import json
import os
import zlib

import jsonschema
import schemathesis

TARGET = json.loads(os.environ["TARGET"])


@schemathesis.hook
def before_call(context, case, kwargs):
    """Requests of two in three are about the environment that exists, and none follows without end."""
    if isinstance(case.body, dict):
        case.body = mapped(case.body)


def mapped(body):
    body = copy.deepcopy(body)
    # The same request is always mapped to the same one.
    if "target" in body and zlib.crc32(repr(body).encode()) % 3:
        body["target"] = TARGET
        if "service" in body and isinstance(body["service"], (str, type(None))):
            body["service"] = "db"
    if "follow" in body:
        body["follow"] = False
    # schemathesis learns from answers what exists. Operations are asked of what does not, and nothing is collected.
    for kind, request in body["request"].items() if isinstance(body.get("request"), dict) else ():
        if kind == "gc" and isinstance(request, dict):
            request["dry_run"] = True
        elif isinstance(request, dict) and "target" in request and TARGET["project"] in json.dumps(request):
            request["target"] = {"project": "/none", "instance": "default"}
    # No registry is asked, and no wait is long.
    if "images" in body and isinstance(body["images"], list):
        body["images"] = []
    if isinstance(body.get("timeout_ms"), int):
        body["timeout_ms"] = min(body["timeout_ms"], 500)
    return body


@schemathesis.check
def each_line_fits(context, response, case):
    """The schema of an answer of many documents describes one of them."""
    document = case.operation.schema.raw_schema
    # Methods that a route does not have are asked too.
    operation = document["paths"][case.operation.path].get(case.method.lower(), {"responses": {}})
    wanted = operation["responses"].get(str(response.status_code), {}).get("content", {}).get("application/x-ndjson")
    if wanted is None:
        return
    validator = jsonschema.Draft202012Validator({**wanted["schema"], "components": document["components"]})
    for line in response.content.splitlines():
        if line:
            validator.validate(json.loads(line))
