# The whole system: what the Worker stands on at Cloudflare, and the jobs on AWS. The two parts share names
# and no more: a run that comes before the queue exists says so, and the next one goes on.

locals {
  # Tokens that are made here go straight into the secrets that the jobs read.
  api_token_secrets = var.create_api_tokens ? toset([for job in ["sync-job", "log-consumer"] : "${job}/CLOUDFLARE_API_TOKEN" if job == "sync-job" || var.packages.log_consumer != null]) : toset([])
}

module "cloudflare" {
  source = "./cloudflare"

  account_id          = var.cloudflare_account_id
  worker_name_prefix  = var.worker_name_prefix
  resources_owner     = var.resources_owner
  sticky_assignments  = var.sticky_assignments
  worker_metrics      = var.worker_metrics
  publish             = var.publish
  message_retention_s = var.message_retention_s
  create_api_tokens   = var.create_api_tokens
}

module "aws" {
  source = "./aws"

  name                  = var.name
  packages              = var.packages
  architecture          = var.architecture
  cloudflare_account_id = var.cloudflare_account_id
  worker_name_prefix    = var.worker_name_prefix
  resources_owner       = var.resources_owner
  sticky_assignments    = var.sticky_assignments
  worker_metrics        = var.worker_metrics
  publish               = var.publish
  rules_ttl_ms          = var.rules_ttl_ms
  max_blast_radius      = var.max_blast_radius
  pages                 = var.pages
  sync                  = var.sync
  consumer              = var.consumer
  forward               = var.forward
  catalogue             = var.catalogue
  network               = var.network
  more_secrets          = var.more_secrets
  existing_secrets      = var.existing_secrets
  secret_values         = merge(var.secret_values, { for secret in local.api_token_secrets : secret => module.cloudflare.api_tokens[split("/", secret)[0]] })
  secret_versions       = merge({ for secret in local.api_token_secrets : secret => module.cloudflare.api_token_versions[split("/", secret)[0]] }, var.secret_versions)
  bucket_name           = var.bucket_name
  noncurrent_days       = var.noncurrent_days
  kms_key_arn           = var.kms_key_arn
  log_retention_days    = var.log_retention_days
  log_level             = var.log_level
  is_enabled            = var.is_enabled
  alarm_emails          = var.alarm_emails
  alarms                = var.alarms
}
