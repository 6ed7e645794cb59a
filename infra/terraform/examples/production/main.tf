# A system that a team runs: a catalogue of its own in a private network, a key of its own, tokens that can do what they
# must, alarms that reach somebody. README.md says what the network has to be like, and what it costs.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  name       = "flagedge"
  account_id = data.aws_caller_identity.current.account_id
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:a key's policy names the key by a star
  # checkov:skip=CKV_AWS_111:as above
  # checkov:skip=CKV_AWS_356:as above
  statement {
    sid       = "Administer"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${local.account_id}:root"]
    }
  }
  # CloudWatch Logs names the log group, and nothing else that tells whose it is.
  statement {
    sid       = "Logs"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.current.partition}:logs:${var.region}:${local.account_id}:log-group:/aws/lambda/${local.name}-*"]
    }
  }
  statement {
    sid       = "Alarms"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_kms_key" "flagedge" {
  description         = "flagedge: logs, secrets, states, the lake"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.key.json
}

# The catalogue is small (a row for each Parquet file) and asked a few times a minute.
resource "aws_db_instance" "catalogue" {
  # checkov:skip=CKV_AWS_118:Performance Insights is on; a catalogue this small needs no metrics by the second
  # checkov:skip=CKV_AWS_161:DuckDB signs in with a password; tokens of IAM end after a quarter of an hour
  # checkov:skip=CKV2_AWS_30:Performance Insights shows slow statements; logging all would repeat every row of the catalogue
  identifier                      = "${local.name}-catalogue"
  engine                          = "postgres"
  engine_version                  = "17"
  instance_class                  = "db.t4g.small"
  allocated_storage               = 20
  max_allocated_storage           = 100
  db_name                         = local.name
  username                        = local.name
  manage_master_user_password     = true
  master_user_secret_kms_key_id   = aws_kms_key.flagedge.arn
  db_subnet_group_name            = var.catalogue_subnet_group
  vpc_security_group_ids          = var.catalogue_security_group_ids
  publicly_accessible             = false
  multi_az                        = true
  storage_encrypted               = true
  kms_key_id                      = aws_kms_key.flagedge.arn
  backup_retention_period         = 14
  copy_tags_to_snapshot           = true
  deletion_protection             = true
  skip_final_snapshot             = false
  final_snapshot_identifier       = "${local.name}-catalogue-final"
  auto_minor_version_upgrade      = true
  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.flagedge.arn
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
}

module "flagedge" {
  source = "../.."

  name                  = local.name
  cloudflare_account_id = var.cloudflare_account_id
  packages              = var.packages
  create_api_tokens     = true
  sticky_assignments    = true
  worker_metrics        = true
  message_retention_s   = 1209600
  kms_key_arn           = aws_kms_key.flagedge.arn
  log_retention_days    = 90
  alarm_emails          = var.alarm_emails

  catalogue = {
    host     = aws_db_instance.catalogue.address
    database = aws_db_instance.catalogue.db_name
    user     = aws_db_instance.catalogue.username
  }
  network = {
    subnet_ids         = var.private_subnet_ids
    security_group_ids = var.consumer_security_group_ids
  }

  # RDS keeps the catalogue's password and changes it; nobody else knows it.
  existing_secrets = {
    "log-consumer/DATABASE_PASSWORD" = "${aws_db_instance.catalogue.master_user_secret[0].secret_arn}#password"
  }
  secret_values   = { "sync-job/CONFIDENCE_CLIENT_SECRET" = var.confidence_client_secret }
  secret_versions = { "sync-job/CONFIDENCE_CLIENT_SECRET" = var.secret_version }
}

output "dashboard_name" {
  description = "The dashboard in CloudWatch."
  value       = module.flagedge.dashboard_name
}
