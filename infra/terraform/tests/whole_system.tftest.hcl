# The root module with mocked providers: `make tf-test` downloads their schemas and calls nobody.

mock_provider "cloudflare" {
  mock_data "cloudflare_account_api_token_permission_groups_list" {
    defaults = {
      result = [
        { id = "1", name = "Workers Scripts Write", scopes = [] },
        { id = "2", name = "Workers KV Storage Write", scopes = [] },
        { id = "3", name = "Queues Write", scopes = [] },
      ]
    }
  }
}

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:mocked" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:mocked" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:mocked" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mocked" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::mocked" }
  }
}

# A file to name as zip; what is in it does not matter here.
variables {
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
  packages              = { sync_job = "main.tf", log_consumer = "main.tf" }
  catalogue             = { host = "db.example.com", database = "lake", user = "flagedge" }
  secret_values         = {}
}

run "least" {
  assert {
    condition     = output.queue_name == "flag-logs-queue" && output.function_names["sync-job"] == "flagedge-sync-job"
    error_message = "Names are not those that the jobs look for."
  }
  assert {
    condition     = length(output.secret_names) == 4
    error_message = "Each job has its token; beside them there are the client's secret and the catalogue's password."
  }
}

run "everything" {
  variables {
    worker_name_prefix = "shop"
    sticky_assignments = true
    worker_metrics     = true
    publish            = "kv"
    pages              = { flags = { "/" = ["checkout"] } }
    create_api_tokens  = true
    alarm_emails       = ["on-call@example.com"]
    network            = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  assert {
    condition     = output.queue_name == "shop-flag-logs-queue"
    error_message = "The prefix is not in the queue's name."
  }
}

run "sync_alone" {
  command = plan

  variables {
    packages  = { sync_job = "main.tf" }
    catalogue = null
  }

  assert {
    condition     = keys(output.function_names) == ["sync-job"]
    error_message = "There is a consumer that nobody asked for."
  }
}

run "consumer_without_catalogue" {
  command = plan

  module {
    source = "./aws"
  }
  variables {
    catalogue = null
  }

  expect_failures = [var.catalogue]
}
