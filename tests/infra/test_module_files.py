"""The modules' files against the providers' schemas, and against our own rules; no Terraform is needed."""

from __future__ import annotations

import re
from typing import Any

import hcl2
import pytest
from module_files import Resource, blocks_of, is_blocks, read_blocks, read_resources, read_variables, unquoted
from terraform_run import MODULES, TERRAFORM
from terraform_schemas import Argument, read_schemas

from infra import module_tables

META = {"count", "for_each", "depends_on", "lifecycle", "provider", "dynamic", "__is_block__"}
"""What any resource may hold."""


def problems_of(body: dict[str, Any], arguments: dict[str, Argument], where: str) -> list[str]:
    """What is unknown or missing in a block, and in the blocks and objects inside it."""
    blocks = list(blocks_of(body))
    names = {name for name in body if name not in META} | {name for name, _ in blocks}
    found = [f"{where}.{name} is unknown" for name in sorted(names - arguments.keys())]
    required = {name for name, argument in arguments.items() if argument.is_required}
    found += [f"{where}.{name} is missing" for name in sorted(required - names)]
    for name, block in blocks:
        if name in arguments:
            if not arguments[name].is_block:
                found.append(f"{where}.{name} is no block")
            found += problems_of(block, arguments[name].nested, f"{where}.{name}")
    for name, value in body.items():
        if name not in arguments or not arguments[name].nested:
            continue
        if is_blocks(value):
            if len(value) > 1 and not arguments[name].is_list:
                found.append(f"{where}.{name} is there {len(value)} times")
        elif arguments[name].is_block:
            found.append(f"{where}.{name} is a block")
        else:
            objects = value if isinstance(value, list) else [value]
            for inner in (each for each in objects if isinstance(each, dict)):  # the others are expressions.
                found += problems_of(inner, arguments[name].nested, f"{where}.{name}")
    return found


@pytest.mark.parametrize(
    "resource", read_resources(), ids=lambda each: f"{each.path.parent.name}-{each.kind}.{each.name}"
)
def test_arguments_are_those_of_the_provider(resource: Resource) -> None:
    """Required ones are there, and none that the provider does not know."""
    assert problems_of(resource.body, read_schemas()[resource.kind], resource.kind) == []


def test_the_check_finds_what_is_wrong() -> None:
    """It sees what is unknown, missing or nested wrongly: at the top, in blocks, dynamic ones too, and in objects."""
    arguments = read_schemas()
    settings = {"queue_nme": "q", "account_id": "a", "settings": {"delivery_pause": True}}
    assert problems_of(settings, arguments["cloudflare_queue"], "q") == [
        "q.queue_nme is unknown",
        "q.queue_name is missing",
        "q.settings.delivery_pause is unknown",
    ]
    schedule = """
        schedule_expression = "rate(1 minute)"
        flexible_time_window = { mode = "OFF" }
        target {
          arn = "a"
        }
        target {
          arn          = "b"
          role_arn     = "r"
          retry_policy = { maximum_retries = 1 }
        }
    """
    assert problems_of(parse_body(schedule), arguments["aws_scheduler_schedule"], "s") == [
        "s.target.role_arn is missing",
        "s.target.retry_policy is a block",
        "s.flexible_time_window is a block",
        "s.target is there 2 times",
    ]
    function = """
        function_name = "f"
        role          = "r"
        dynamic "vpc_config" {
          for_each = [1]
          content {
            subnet_id          = []
            security_group_ids = []
          }
        }
    """
    assert problems_of(parse_body(function), arguments["aws_lambda_function"], "f") == [
        "f.vpc_config.subnet_id is unknown",
        "f.vpc_config.subnet_ids is missing",
    ]
    queue = parse_body('account_id = "a"\nqueue_name = "q"\nsettings {\n  delivery_delay = 1\n}')
    assert problems_of(queue, arguments["cloudflare_queue"], "q") == ["q.settings is no block"]


def parse_body(text: str) -> dict[str, Any]:
    """What stands in one block, as the files' blocks are read."""
    [block] = hcl2.loads(f'block "of" {{\n{text}\n}}\n')["block"]
    body: dict[str, Any] = unquoted(block)["of"]
    return body


@pytest.mark.parametrize("module", MODULES)
def test_every_variable_is_described_typed_and_validated(module: str) -> None:
    """Validated here, or handed on to a child that does; booleans need no rule, nor what examples are told."""
    children = read_blocks(module, "module")
    for name, variable in read_variables(module).items():
        assert variable["description"].endswith("."), name
        assert "type" in variable, name
        if "validation" in variable or variable["type"] == "bool" or module.startswith("examples/"):
            continue
        takers = [
            (body["source"].removeprefix("./"), argument)
            for _, block in children
            for body in block.values()
            for argument, value in body.items()
            if re.search(rf"\bvar\.{name}\b", str(value))
        ]
        assert takers, f"{module}: nobody validates {name}"
        assert all("validation" in read_variables(child)[argument] for child, argument in takers), (module, name)


@pytest.mark.parametrize("module", MODULES)
def test_every_output_is_described(module: str) -> None:
    """An output says what it is."""
    for _, block in read_blocks(module, "output"):
        for name, output in block.items():
            assert output["description"], name


@pytest.mark.parametrize("module", module_tables.MODULES)
def test_tables_in_the_readmes(module: str) -> None:
    """Inputs and outputs stand in the module's README as `make tf-docs` writes them, all of them."""
    path = TERRAFORM / module
    text = (path / "README.md").read_text()
    assert text == module_tables.render_readme(path)
    for name, variable in read_variables(module).items():
        assert f"| `{name}` |" in text
        assert variable["description"].replace('\\"', '"') in text
    for block in module_tables.read_blocks(path, "variable"):
        shown = block.attributes["type"]
        assert all(shown.count(opened) == shown.count(closed) for opened, closed in ("()", "{}", "[]")), block.name


def test_log_groups_are_there_before_functions_and_keep_logs_for_a_time() -> None:
    """Lambda would make one that is kept for ever."""
    by_kind = {resource.kind: resource.body for resource in read_resources() if resource.path.parent.name == "aws"}
    assert by_kind["aws_cloudwatch_log_group"]["retention_in_days"] == "${var.log_retention_days}"
    logging = dict(blocks_of(by_kind["aws_lambda_function"]))["logging_config"]
    assert "aws_cloudwatch_log_group.job" in logging["log_group"]
