# Two functions, each called by a schedule of its own, one run at a time.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  handlers = {
    sync-job     = "sync_job.handler.handler"
    log-consumer = "log_consumer.handler.handler"
  }
  package_paths = {
    sync-job     = var.packages.sync_job
    log-consumer = var.packages.log_consumer
  }
  sizes = {
    sync-job     = { timeout_s = var.sync.timeout_s, memory_mb = var.sync.memory_mb, scratch_mb = 512 }
    log-consumer = { timeout_s = var.consumer.timeout_s, memory_mb = var.consumer.memory_mb, scratch_mb = var.consumer.scratch_mb }
  }
  environments = {
    sync-job     = merge(local.sync_environment, var.sync.settings)
    log-consumer = merge(local.consumer_environment, var.consumer.settings)
  }
  # The sync needs no database, and so no VPC and no NAT gateway.
  networks = {
    sync-job     = []
    log-consumer = var.network[*]
  }
}

resource "aws_cloudwatch_log_group" "job" {
  # checkov:skip=CKV_AWS_338:how long logs are kept is log_retention_days
  for_each = local.function

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

# A zip over 50 MB has to come from S3. Its digest is in its key, so that a function never finds another one there.
resource "aws_s3_object" "package" {
  for_each = local.function

  bucket      = aws_s3_bucket.data.id
  key         = "${local.prefixes.packages}/${each.key}-${filesha256(local.package_paths[each.key])}.zip"
  source      = local.package_paths[each.key]
  source_hash = filesha256(local.package_paths[each.key])

  depends_on = [aws_s3_bucket_server_side_encryption_configuration.data, aws_s3_bucket_versioning.data]
}

resource "aws_lambda_function" "job" {
  # checkov:skip=CKV_AWS_116:an event says only that it is time; there is nothing to keep
  # checkov:skip=CKV_AWS_272:the code is pinned by its digest, in the key of the zip and in source_code_hash
  # checkov:skip=CKV_AWS_50:one process, which logs and measures its own steps
  for_each = local.function

  function_name    = each.value
  description      = "flagedge: ${each.key}"
  role             = aws_iam_role.job[each.key].arn
  handler          = local.handlers[each.key]
  runtime          = "python3.13"
  architectures    = [var.architecture]
  s3_bucket        = aws_s3_object.package[each.key].bucket
  s3_key           = aws_s3_object.package[each.key].key
  source_code_hash = filebase64sha256(local.package_paths[each.key])
  memory_size      = local.sizes[each.key].memory_mb
  timeout          = local.sizes[each.key].timeout_s
  kms_key_arn      = var.kms_key_arn

  reserved_concurrent_executions = 1

  environment {
    variables = {
      for name, value in merge(local.environments[each.key], local.secret_references[each.key]) : name => value if value != ""
    }
  }

  ephemeral_storage {
    size = local.sizes[each.key].scratch_mb
  }

  logging_config {
    # The jobs write JSON themselves; a log line that carries metrics has to arrive as it is.
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.job[each.key].name
  }

  dynamic "vpc_config" {
    for_each = local.networks[each.key]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.job]
}

# The event says nothing but that it is time: one that is late, or that failed, is worth less than the next one.
resource "aws_lambda_function_event_invoke_config" "job" {
  for_each = local.function

  function_name                = aws_lambda_function.job[each.key].function_name
  maximum_event_age_in_seconds = max(60, local.schedule_minutes[each.key] * 60)
  maximum_retry_attempts       = 0
}
