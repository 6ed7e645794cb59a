# What the functions are told. Names of settings stand here and nowhere else; an empty value counts as not set.

locals {
  has_consumer = var.packages.log_consumer != null
  jobs         = local.has_consumer ? ["sync-job", "log-consumer"] : ["sync-job"]
  function     = { for job in local.jobs : job => "${var.name}-${job}" }

  bucket_name = coalesce(var.bucket_name, "${var.name}-${data.aws_caller_identity.current.account_id}-${data.aws_region.current.region}")
  prefixes = {
    lease    = "lease"
    states   = "states"
    lake     = "lake"
    packages = "functions"
  }
  prefix      = var.worker_name_prefix == "" ? "" : "${var.worker_name_prefix}-"
  worker_name = "${local.prefix}confidence-cloudflare-resolver"
  queue_name  = "${local.prefix}flag-logs-queue"

  sync_environment = {
    CLOUDFLARE_ACCOUNT_ID     = var.cloudflare_account_id
    WORKER_NAME_PREFIX        = var.worker_name_prefix
    MAKE_RESOURCES            = var.resources_owner == "sync-job" ? "true" : "false"
    ENABLE_STICKY_ASSIGNMENTS = var.sticky_assignments ? "true" : ""
    ENABLE_METRICS            = var.worker_metrics ? "true" : ""
    LEASE                     = "s3://${local.bucket_name}/${local.prefixes.lease}/sync-job.json"
    STATE_ARCHIVE             = "s3://${local.bucket_name}/${local.prefixes.states}"
    LOG_LEVEL                 = var.log_level
  }
  consumer_environment = {
    CLOUDFLARE_ACCOUNT_ID = var.cloudflare_account_id
    WORKER_NAME_PREFIX    = var.worker_name_prefix
    DATABASE              = local.has_consumer ? "ducklake:postgres://${var.catalogue.user}@${var.catalogue.host}:${var.catalogue.port}/${var.catalogue.database}?sslmode=${var.catalogue.sslmode}" : ""
    LAKE_DATA_PATH        = "s3://${local.bucket_name}/${local.prefixes.lake}/"
    FORWARD               = var.forward ? "" : "off"
    LOG_LEVEL             = var.log_level
  }
}
