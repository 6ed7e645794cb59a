# A role for each function, with what its code calls. Statements named `Runtime…` are what Lambda does in the function's
# name; the others are held against recorded calls in tests/infra/test_functions.py.

locals {
  sync_prefixes = [local.prefixes.lease, local.prefixes.states]
}

data "aws_iam_policy_document" "assume_lambda" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "runtime" {
  for_each = local.function

  statement {
    sid       = "RuntimeLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.job[each.key].arn}:*"]
  }

  # Lambda's own actions on network interfaces know no resources.
  dynamic "statement" {
    for_each = local.networks[each.key]

    content {
      sid = "RuntimeNetwork"
      actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
      ]
      resources = ["*"]
    }
  }

  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = local.secret_arns[each.key]
  }

  # For secrets, bucket and environment; without a key of your own AWS's keys do it for who may use the thing.
  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "RuntimeKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

data "aws_iam_policy_document" "sync_job" {
  source_policy_documents = [data.aws_iam_policy_document.runtime["sync-job"].json]

  statement {
    sid       = "LeaseAndStates"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [for prefix in local.sync_prefixes : "${aws_s3_bucket.data.arn}/${prefix}/*"]
  }
  # Without it an object that is not there looks forbidden.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.data.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = [for prefix in local.sync_prefixes : "${prefix}/*"]
    }
  }
}

data "aws_iam_policy_document" "log_consumer" {
  count = local.has_consumer ? 1 : 0

  source_policy_documents = [data.aws_iam_policy_document.runtime["log-consumer"].json]

  statement {
    sid       = "Lake"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.data.arn}/${local.prefixes.lake}/*"]
  }
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.data.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${local.prefixes.lake}/*"]
    }
  }
}

locals {
  policies = {
    sync-job     = data.aws_iam_policy_document.sync_job.json
    log-consumer = one(data.aws_iam_policy_document.log_consumer[*].json)
  }
}

resource "aws_iam_role" "job" {
  for_each = local.function

  name               = each.value
  description        = "flagedge: ${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume_lambda.json
}

resource "aws_iam_role_policy" "job" {
  for_each = local.function

  name   = "job"
  role   = aws_iam_role.job[each.key].id
  policy = local.policies[each.key]
}

data "aws_iam_policy_document" "assume_scheduler" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Call"
    actions   = ["lambda:InvokeFunction"]
    resources = [for function in aws_lambda_function.job : function.arn]
  }
  statement {
    sid       = "Undelivered"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.undelivered.arn]
  }
  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.name}-scheduler"
  description        = "flagedge: calls the jobs"
  assume_role_policy = data.aws_iam_policy_document.assume_scheduler.json
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "call"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}
