"""A provider of Terraform that stands in for one that cannot be downloaded: it knows the schemas, and no cloud.

Terraform itself does the rest: expressions, types, unknown and missing arguments, conditions, `count` and `for_each`.
What the real provider would compute is unknown in a plan, and made up when it is applied. Whether the cloud would take
the values is not tried here. Run by Terraform as `terraform-provider-aws` or `-cloudflare`.
Source: Terraform's plugin protocol, version 6; the handshake of HashiCorp's go-plugin.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgpack
from google.protobuf.message import Message
from grpc_tools import protoc
from terraform_schemas import COMPUTED, WRITE_ONLY, Argument, read_provider, read_schemas

ACCOUNT_ID, REGION, PARTITION = "123456789012", "eu-central-1", "aws"
PROTOCOL_VERSION = 6
SINGLE, LIST = 1, 2
NAMES = ("function_name", "bucket", "name", "queue_name", "title", "identifier", "alarm_name")
"""Arguments that name a resource, for the values that are made up."""
SERVICES = {"cloudwatch": "logs", "db": "rds"}
"""Services that are not called in an ARN as in a resource's type."""
UNKNOWN = msgpack.ExtType(0, b"\0")
PLAIN = {"string": "string", "number": "number", "bool": "bool"}
PERMISSION_GROUPS = [
    {"id": f"{index:032x}", "name": name, "scopes": ["com.cloudflare.api.account"]}
    for index, name in enumerate(("Workers Scripts Write", "Workers KV Storage Write", "Queues Write", "Queues Read"))
]


def load_messages() -> Any:
    """The generated module of the protocol's messages."""
    folder = tempfile.mkdtemp()
    source = Path(__file__).parent
    assert protoc.main(["", f"-I{source}", f"--python_out={folder}", str(source / "terraform_provider.proto")]) == 0
    sys.path.insert(0, folder)
    import terraform_provider_pb2  # noqa: PLC0415

    return terraform_provider_pb2


pb = load_messages()


def type_of(described: Any) -> Any:
    """A type in Terraform's JSON, from how the schema file or COMPUTED writes it."""
    if isinstance(described, dict):
        return ["object", {name: type_of(value) for name, value in described.items()}]
    if isinstance(described, list):
        return ["list", type_of(described[0])]
    if described in PLAIN:
        return PLAIN[described]
    outer, _, inner = described.partition("(")
    return [outer, type_of(inner.removesuffix(")"))]


def attribute_of(argument: Argument, *, is_write_only: bool = False) -> Message:
    attribute = pb.Schema.Attribute(
        name=argument.name,
        required=argument.is_required,
        optional=not argument.is_required,
        write_only=is_write_only,
    )
    if argument.nested:
        attribute.nested_type.nesting = LIST if argument.is_list else SINGLE
        attribute.nested_type.attributes.extend(attribute_of(inner) for inner in argument.nested.values())
    else:
        # An object whose inside the file does not tell can be anything.
        known = not argument.type.endswith(("object", "object)"))
        attribute.type = json.dumps(type_of(argument.type) if known else "dynamic").encode()
    return attribute


def block_of(arguments: dict[str, Argument], write_only: set[str] | None = None) -> Message:
    block = pb.Schema.Block()
    for name, argument in arguments.items():
        if argument.is_block:
            nested = block.block_types.add(type_name=name, nesting=LIST, min_items=int(argument.is_required))
            nested.max_items = 0 if argument.is_list else 1
            nested.block.CopyFrom(block_of(argument.nested))
        else:
            block.attributes.append(attribute_of(argument, is_write_only=name in (write_only or set())))
    return block


def schema_of(kind: str, arguments: dict[str, Argument]) -> Message:
    block = block_of(arguments, WRITE_ONLY.get(kind))
    computed = COMPUTED.get(kind, {})
    for name, described in computed.items():
        present = next((attribute for attribute in block.attributes if attribute.name == name), None)
        (present or block.attributes.add(name=name)).computed = True
        if present is None:
            block.attributes[-1].type = json.dumps(type_of(described)).encode()
    return pb.Schema(block=block)


class Provider:
    """Answers by method of the protocol. `name` is `aws` or `cloudflare`."""

    def __init__(self, name: str) -> None:
        self.settings = read_provider(name)
        self.schemas = {
            kind: arguments
            for kind, arguments in read_schemas().items()
            if kind.removeprefix("data.").startswith(f"{name}_")
        }

    def describe(self, _: Message) -> Message:
        schemas = pb.Schemas(provider=pb.Schema(block=block_of(self.settings)))
        for kind, arguments in self.schemas.items():
            is_data = kind.startswith("data.")
            found = schemas.data_source_schemas if is_data else schemas.resource_schemas
            found[kind.removeprefix("data.")].CopyFrom(schema_of(kind, arguments))
        return schemas

    def accept(self, _: Message) -> Message:
        return pb.Diagnostics()

    def plan(self, asked: Any) -> Message:
        state = unpack(asked.new_state)
        if state is not None:
            for name in COMPUTED.get(asked.type_name, {}):
                state[name] = UNKNOWN if state.get(name) is None else state[name]
            for name in WRITE_ONLY.get(asked.type_name, ()):
                state[name] = None
        return pb.State(state=pack(state))

    def apply(self, asked: Any) -> Message:
        state = unpack(asked.new_state)
        if state is not None:
            note_written(asked.type_name, state, unpack(asked.config))
            for name, described in COMPUTED.get(asked.type_name, {}).items():
                if state.get(name) == UNKNOWN:
                    state[name] = invent(asked.type_name, state, described, name)
        return pb.State(state=pack(state))

    def refresh(self, asked: Any) -> Message:
        return pb.State(state=asked.state)

    def restore(self, asked: Any) -> Message:
        return pb.State(state=pb.DynamicValue(json=asked.raw_state.json))

    def read(self, asked: Any) -> Message:
        config = unpack(asked.config)
        answers: dict[str, Any] = {
            "aws_caller_identity": {"account_id": ACCOUNT_ID},
            "aws_partition": {"partition": PARTITION},
            "aws_region": {"region": REGION},
            "cloudflare_account_api_token_permission_groups_list": {"result": PERMISSION_GROUPS},
        }
        if asked.type_name == "aws_iam_policy_document":
            answers[asked.type_name] = {"json": json.dumps(policy_of(config))}
        return pb.State(state=pack(config | answers[asked.type_name]))


def note_written(kind: str, state: dict[str, Any], config: dict[str, Any]) -> None:
    """What a write-only argument is told is nowhere else: a file in the home folder, a line for each resource."""
    written = {name: config[name] for name in WRITE_ONLY.get(kind, ())}
    if written:
        with Path.home().joinpath("written.jsonl").open("a") as lines:
            lines.write(json.dumps({"secret_id": state["secret_id"]} | written) + "\n")


def invent(kind: str, state: dict[str, Any], described: Any, name: str) -> Any:
    """A value for a computed attribute: of its form, and told apart by what the resource is called."""
    if isinstance(described, list):
        return [{inner: invent(kind, state, described[0][inner], inner) for inner in described[0]}]
    called = next((state[key] for key in NAMES if state.get(key)), kind)
    if name.endswith("arn"):
        service = "secretsmanager" if name == "secret_arn" else kind.split("_")[1]
        return f"arn:{PARTITION}:{SERVICES.get(service, service)}:{REGION}:{ACCOUNT_ID}:{called}"
    return called if name == "id" else f"{name} of {called}"


def policy_of(config: dict[str, Any]) -> dict[str, Any]:
    """An IAM policy as the data source renders it, as far as the modules use it."""
    statements = [
        statement for source in config["source_policy_documents"] or [] for statement in json.loads(source)["Statement"]
    ]
    for block in config["statement"]:
        statement = {"Effect": block["effect"] or "Allow", "Action": block["actions"], "Resource": block["resources"]}
        if block["sid"]:
            statement["Sid"] = block["sid"]
        if block["principals"]:
            statement["Principal"] = {each["type"]: each["identifiers"] for each in block["principals"]}
        if block["condition"]:
            statement["Condition"] = {each["test"]: {each["variable"]: each["values"]} for each in block["condition"]}
        statements.append({key: value for key, value in statement.items() if value is not None})
    return {"Version": "2012-10-17", "Statement": statements}


def unpack(value: Any) -> Any:
    return msgpack.unpackb(value.msgpack, ext_hook=lambda *_: UNKNOWN, strict_map_key=False)


def pack(value: Any) -> Message:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def serve(name: str) -> None:
    """Serve until Terraform says that it is done."""
    provider, done = Provider(name), threading.Event()

    def stop(_: Message) -> Message:
        done.set()
        return pb.Empty()

    methods = {
        "GetProviderSchema": (provider.describe, pb.Empty),
        "ValidateProviderConfig": (provider.accept, pb.Empty),
        "ValidateResourceConfig": (provider.accept, pb.Asked),
        "ValidateDataResourceConfig": (provider.accept, pb.Asked),
        "ConfigureProvider": (provider.accept, pb.Empty),
        "PlanResourceChange": (provider.plan, pb.ChangeAsked),
        "ApplyResourceChange": (provider.apply, pb.ChangeAsked),
        "ReadResource": (provider.refresh, pb.ChangeAsked),
        "UpgradeResourceState": (provider.restore, pb.StoredState),
        "ReadDataSource": (provider.read, pb.Asked),
        "StopProvider": (provider.accept, pb.Empty),
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers(
        (handlers("tfplugin6.Provider", methods), handlers("plugin.GRPCController", {"Shutdown": (stop, pb.Empty)}))
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|{PROTOCOL_VERSION}|tcp|127.0.0.1:{port}|grpc|", flush=True)
    done.wait()
    server.stop(grace=1).wait()


def handlers(service: str, methods: dict[str, tuple[Any, Any]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service,
        {
            method: grpc.unary_unary_rpc_method_handler(
                lambda asked, _, answer=answer: answer(asked),
                request_deserializer=asked_type.FromString,
                response_serializer=lambda answered: answered.SerializeToString(),
            )
            for method, (answer, asked_type) in methods.items()
        },
    )


if __name__ == "__main__":
    serve(sys.argv[1])
