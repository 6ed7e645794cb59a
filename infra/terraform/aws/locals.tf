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

  makes_resources = var.resources_owner == "sync-job" ? "true" : "false"

  has_pages  = var.pages != null
  has_access = local.has_pages ? var.pages.access != null : false
  has_signed = local.has_pages ? anytrue([for source in values(var.pages.context) : startswith(source, "signed:")]) : false

  sync_environment = {
    CLOUDFLARE_ACCOUNT_ID     = var.cloudflare_account_id
    WORKER_NAME_PREFIX        = var.worker_name_prefix
    MAKE_RESOURCES            = local.makes_resources
    ENABLE_STICKY_ASSIGNMENTS = var.sticky_assignments ? "true" : ""
    ENABLE_METRICS            = var.worker_metrics ? "true" : ""
    PUBLISH                   = var.publish
    RULES_TTL_MS              = var.publish == "kv" ? tostring(var.rules_ttl_ms) : ""
    MAX_BLAST_RADIUS          = var.max_blast_radius == null ? "" : tostring(var.max_blast_radius)
    PAGE_FLAGS                = local.has_pages ? jsonencode(var.pages.flags) : ""
    PAGE_CONTEXT              = local.has_pages ? jsonencode(var.pages.context) : ""
    PAGE_ORIGIN               = local.has_pages ? var.pages.origin : ""
    PAGE_COOKIE               = local.has_pages ? var.pages.cookie : ""
    PAGE_CLIENT               = local.has_pages ? var.pages.client : ""
    PAGE_ACCESS_TEAM          = local.has_access ? var.pages.access.team : ""
    PAGE_ACCESS_AUDIENCE      = local.has_access ? var.pages.access.audience : ""
    LEASE                     = "s3://${local.bucket_name}/${local.prefixes.lease}/sync-job.json"
    STATE_ARCHIVE             = "s3://${local.bucket_name}/${local.prefixes.states}"
    LOG_LEVEL                 = var.log_level
  }
  consumer_environment = {
    CLOUDFLARE_ACCOUNT_ID = var.cloudflare_account_id
    WORKER_NAME_PREFIX    = var.worker_name_prefix
    MAKE_RESOURCES        = local.makes_resources
    DATABASE              = local.has_consumer ? "ducklake:postgres://${var.catalogue.user}@${var.catalogue.host}:${var.catalogue.port}/${var.catalogue.database}?sslmode=${var.catalogue.sslmode}" : ""
    LAKE_DATA_PATH        = "s3://${local.bucket_name}/${local.prefixes.lake}/"
    FORWARD               = var.forward ? "" : "off"
    LOG_LEVEL             = var.log_level
  }
}
